"""One module for each noun."""

from triage.web.routes import (
    actions,
    assets,
    events,
    health,
    history,
    login,
    policy,
    problems,
    reports,
    studies,
    views,
    worklist,
)

#: Every router, in the order in which addresses are tried.
ALL = tuple(
    module.router
    for module in (
        health,
        worklist,
        studies,
        actions,
        events,
        history,
        policy,
        problems,
        login,
        assets,
        views,
        reports,
    )
)
