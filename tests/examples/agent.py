"""An agent may talk to its model and to two package registries, and to nobody else."""

from nanotun.script import Flow, Query

ALLOWED = {
    "api.anthropic.com": {443},
    "pypi.org": {443},
    "files.pythonhosted.org": {443},
    "registry.npmjs.org": {443},
}


def flow(flow: Flow) -> str:
    # An address without a name could be anybody's.
    allowed = flow.protocol == "tcp" and flow.port in ALLOWED.get(flow.domain or "", ())
    return "proxy" if allowed else "reject"


def query(query: Query) -> str | None:
    # A name that is looked up leaves, too: it could carry a secret.
    return None if query.name in ALLOWED else "refuse"
