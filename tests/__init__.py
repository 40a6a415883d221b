"""
The tests: C{unit}, one folder for each part; C{contracts}, what every implementation
of an interface must do; C{e2e}, the whole on real traffic.
"""

from pathlib import Path

#: The project's top folder.
ROOT = Path(__file__).parent.parent
