"""Hides the package of this name from the processes of the service that tests start.

Tools for tests depend on it; requirements.txt, which production installs, does not have it. structlog would import it,
which takes a tenth of a start.
"""

raise ImportError("production does not have this package")
