"""
The page in a browser and the API behind it: imported only if the setting C{web} is there.

The server (L{nanotun.web.site}) decides who gets an answer, L{nanotun.web.api} has what can be
asked, and L{nanotun.web.pages} what a browser shows.  Nothing here runs while nobody looks.
"""
