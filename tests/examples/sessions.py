"""Every program gets a circuit of its own in Tor, and a browser one for each site."""

from nanotun.script import Flow, Through

BROWSERS = ("chromium", "firefox", "librewolf")


def flow(flow: Flow) -> Through | str:
    if flow.process is None or not flow.process.name:
        return "reject"  # It would share a circuit with others.
    session = f"{flow.process.user}-{flow.process.name}"
    if flow.process.name in BROWSERS and flow.domain:
        session += "-" + ".".join(flow.domain.split(".")[-2:])
    return Through("tor", session=session)
