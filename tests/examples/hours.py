"""Social networks are closed, except in the evening, and at weekends from noon on."""

from datetime import datetime

from nanotun.script import Flow

SOCIAL = ("facebook.com", "instagram.com", "reddit.com", "tiktok.com", "x.com")


def flow(flow: Flow) -> str | None:
    if not flow.isBelow(*SOCIAL):
        return None
    now = datetime.now()
    opens = 12 if now.weekday() >= 5 else 18
    return None if opens <= now.hour < 22 else "reject"
