"""triage: a worklist triager for chest radiographs. Research use only; not a medical device."""

__version__ = "0.1.0"

RESEARCH_USE = (
    "Research use only. Not a medical device. Not for diagnosis, triage of patients or any clinical "
    "decision. The order of reading and the reader's judgement remain the standard of care."
)

#: What we call ourselves in files and associations (PS3.7 D.3.3.2).
IMPLEMENTATION_CLASS_UID = "2.25.329121786399991071283796225202201918862"
IMPLEMENTATION_VERSION_NAME = "TRIAGE"
