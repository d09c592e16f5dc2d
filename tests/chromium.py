"""The browser of the tests, in two forms.

The headless shell draws pages only. Chromium has windows and extensions even if it shows none: a page of its own takes
it 0.5 s of processor time, and the shell 0.1 s. Only Chromium keeps pages for the back button.
"""

import shutil
from typing import Final

CHROMIUM: Final = shutil.which("chromium")
SHELL: Final = shutil.which("chromium-headless-shell") or CHROMIUM
