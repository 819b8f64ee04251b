"""One module for each noun."""

from triage.web.routes import (
    actions,
    assets,
    events,
    health,
    history,
    login,
    orders,
    policy,
    problems,
    reports,
    results,
    stow,
    studies,
    views,
    workitems,
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
        orders,
        stow,
        workitems,
        policy,
        problems,
        results,
        login,
        assets,
        views,
        reports,
    )
)
