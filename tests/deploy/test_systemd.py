"""deploy/systemd.md leads from nothing to a running service. systemd itself, packages and users are replaced."""

import re
import stat
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from service.embedded.cluster import find_programs
from tests.deploy.installation import installation
from tests.deploy.pages import Shell, commands
from tests.serving import REPOSITORY, free_port

MAJOR = 18


class Machine:
    """The units and environment files that the page installs, and what systemd would make of them."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def environment(self, name: str) -> dict[str, str]:
        """Reads an environment file."""
        lines = (self._shell.folder / "etc" / name).read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def start(self, unit: str, **environment: object) -> subprocess.Popen[str]:
        """Runs the program of a unit with the environment of its file, and nothing else."""
        text = self._shell.placed((self._shell.folder / "units" / unit).read_text())
        values = dict(re.findall(r"^(ExecStart|EnvironmentFile|WorkingDirectory)=(.*)$", text, re.MULTILINE))
        return subprocess.Popen(
            values["ExecStart"].split(),
            cwd=values["WorkingDirectory"],
            env=self.environment(Path(values["EnvironmentFile"]).name)
            | {name: str(value) for name, value in environment.items()},
            stderr=subprocess.PIPE,
            text=True,
        )


def test_the_page_leads_to_a_running_service(tmp_path: Path) -> None:
    """Its commands run in their order; then the units that it starts do their work with the files that it writes."""
    with installation(MAJOR, roles=False) as server:
        address = urlsplit(server.administrator_url)
        administrator_url = address._replace(path="/postgres").geturl()
        port = free_port()
        places = {
            "/opt/holdfast/.venv/bin/python": sys.executable,
            "/opt/holdfast": REPOSITORY,
            "/etc/holdfast": tmp_path / "etc",
            "/etc/systemd/system/": f"{tmp_path / 'units'}/",
            "127.0.0.1:5432": f"{address.hostname}:{address.port}",
            "127.0.0.1:8000": f"127.0.0.1:{port}",
        }
        shell = Shell(tmp_path, places, VERSION="v0.2.0", REPOSITORY="https://git.example/holdfast")
        for program in ("apt-get", "useradd", "git", "make", "systemctl", "curl"):
            shell.replace_program(program)
        psql = find_programs(MAJOR) / "psql"
        shell.replace_program("runuser", f'shift 4; exec "{psql}" "{administrator_url}" "$@"')
        (tmp_path / "units").mkdir()
        shell.run(*commands("systemd.md"))

        machine = Machine(shell)
        for name in ("holdfast.env", "migration.env"):
            assert stat.S_IMODE((tmp_path / "etc" / name).stat().st_mode) == 0o600
        secrets = [value for name, value in machine.environment("holdfast.env").items() if name != "DATABASE_URL"]
        assert len(set(secrets)) == 3
        assert all(len(secret) == 64 for secret in secrets)
        assert "migrator" not in (tmp_path / "etc/holdfast.env").read_text()

        calls = [call.removeprefix("systemctl ") for call in shell.calls() if call.startswith("systemctl ")]
        assert calls == [
            "daemon-reload",
            "start holdfast-migrate",
            "enable --now holdfast.service holdfast-cleanup.timer",
        ]
        for unit in ("holdfast-migrate.service", "holdfast-cleanup.service"):
            with machine.start(unit) as process:
                _, errors = process.communicate()
            assert process.returncode == 0, errors
        with machine.start("holdfast.service", PORT=port) as service:
            try:
                (tmp_path / "programs/curl").unlink()
                [probe] = [line for line in commands("systemd.md")[-1].splitlines() if line.startswith("curl ")]
                assert shell.run(probe) == '{"status":"ready"}'
            finally:
                service.terminate()
                service.communicate()


def test_the_page_installs_every_unit() -> None:
    """A unit of the folder that the page does not name would never start."""
    page = "".join(commands("systemd.md"))
    for path in (REPOSITORY / "deploy/systemd").iterdir():
        started = path.name in page or path.stem in page or path.with_suffix(".timer").name in page
        assert started, path.name
