"""How the page puts things: names, waiting times and findings as a reader says them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

FINDING_LABELS: Mapping[str, str] = {
    "bacterial_pneumonia": "Bacterial pneumonia",
    "viral_pneumonia": "Viral pneumonia",
    "covid19": "COVID-19",
    "tuberculosis": "Tuberculosis",
    "other": "Other disease",
    "normal": "No finding",
}
OUTCOME_LABELS: Mapping[str, str] = {
    "positive": "Positive",
    "undetermined": "Undetermined",
    "negative": "No finding",
    "not_evaluated": "Not evaluated",
}
#: A sign beside the colour, so that the colour is never alone.
STATE_SIGNS: Mapping[str, str] = {"present": "●", "undetermined": "◐", "absent": "○"}


def moment(value: Any) -> datetime:
    """Return a time of an API item, which may be a datetime or RFC 3339 text."""
    return value if isinstance(value, datetime) else datetime.fromisoformat(value)


def patient_name(name: str) -> str:
    """Return a DICOM person name as a reader expects it: `DOE^JANE` is "DOE, JANE" (PS3.5 6.2.1)."""
    first_group = next((group for group in name.split("=") if group.strip()), "")
    parts = [part.strip() for part in first_group.split("^")]
    family, rest = parts[0], " ".join(part for part in parts[1:3] if part)
    return ", ".join(part for part in (family, rest) if part) or "(no name)"


def date_words(value: str | None) -> str:
    """Return a DICOM or ISO date as `1961-04-03`; anything else as it is."""
    text = value or ""
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if len(text) == 8 and text.isdigit() else text


def span(seconds: float) -> str:
    """Return a length of time in at most two units: `45 s`, `12 min`, `3 h 05`, `2 d 4 h`."""
    whole = max(0, int(seconds))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60:02d}"
    return f"{minutes} min" if minutes else f"{whole} s"


def due_share(item: Mapping[str, Any], now: datetime) -> int:
    """Return how much of the allowed wait is used, in percent, 0 to 100."""
    arrived, due = moment(item["arrived_at"]), moment(item["due_at"])
    allowed = (due - arrived) / timedelta(seconds=1)
    if allowed <= 0:
        return 100
    return min(100, max(0, round(100 * ((now - arrived) / timedelta(seconds=1)) / allowed)))


def due_words(item: Mapping[str, Any], now: datetime) -> str:
    """Return `due in 25 min` or `overdue 1 h 05`."""
    left = (moment(item["due_at"]) - now) / timedelta(seconds=1)
    return f"due in {span(left)}" if left >= 0 else f"overdue {span(-left)}"


def shown_findings(item: Mapping[str, Any], most: int = 3) -> Sequence[Mapping[str, Any]]:
    """Return the findings worth a bar in a row: those not absent, most probable first."""
    findings = (item.get("assessment") or {}).get("findings") or ()
    seen = [finding for finding in findings if finding["state"] != "absent"]
    return sorted(seen, key=lambda finding: (finding["state"] != "present", -finding["probability"]))[:most]


def viewer_link(template: str, item: Mapping[str, Any]) -> str:
    """Return the site's viewer address for a study; empty when the site has none."""
    if not template:
        return ""
    values = {
        "study_uid": item["study_instance_uid"],
        "accession_number": item.get("accession_number") or "",
        "patient_id": (item.get("patient") or {}).get("id") or "",
    }
    link = template
    for name, value in values.items():
        link = link.replace("{" + name + "}", quote(str(value), safe=""))
    return link


def plain(sentence: str) -> str:
    """Return a sentence of the order with the finding that it begins with named as readers name it."""
    key, _, rest = sentence.partition(" ")
    label = FINDING_LABELS.get(key, key.replace("_", " ")) if rest[:1].isdigit() else key
    return f"{label[:1].upper()}{label[1:]} {rest}".rstrip()


def why_line(item: Mapping[str, Any]) -> str:
    """Return in one line why a row stands where it stands."""
    said = "; ".join(plain(reason) for reason in item["reasons"]) or "In order of arrival"
    return f"STAT by order. {said}" if item["band"] == 0 else said


def minutes(value: float) -> str:
    """Return a shift as `+180 min`, `−30 min` or `0 min`."""
    rounded = round(value)
    sign = "+" if rounded > 0 else "−" if rounded < 0 else ""
    return f"{sign}{abs(rounded)} min"
