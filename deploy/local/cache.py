"""Folder that keeps downloaded tools between runs."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# PostgreSQL runs as another user than root and must be able to read files that root installed, whatever the umask.
READABLE = 0o755
UMASK = 0o022


def folder():
    """Returns the cache folder; set CAMPAIGN_CACHE_DIR to choose another."""
    chosen = os.environ.get("CAMPAIGN_CACHE_DIR")
    if chosen:
        path = Path(chosen)
    elif os.geteuid() == 0:
        # Not below /root: PostgreSQL runs as another user and must be able to read its files.
        path = Path("/var/cache/campaign-control")
    else:
        path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "campaign-control"
    if not path.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(READABLE)
    return path


def build_once(name, build):
    """Returns the folder `name` in the cache, made by `build(draft)` the first time.

    The folder is made under another name and moved into place, so that two runs at once cannot spoil it.
    """
    final = folder() / name
    if final.is_dir():
        return final
    draft = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=folder()))
    try:
        draft.chmod(READABLE)
        build(draft)
        try:
            draft.rename(final)
        except OSError:
            if not final.is_dir():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return final


def pip_install(target, packages):
    """Installs packages into a folder."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [python_with_pip(scratch), "-m", "pip", "install", "--quiet", "--no-input",
                   "--disable-pip-version-check", "--no-warn-script-location", "--target", str(target), *packages]
        # The setting is a variable, since an older pip rejects the option.
        environment = {**os.environ, "PIP_ROOT_USER_ACTION": "ignore"}
        if subprocess.run(command, stdout=sys.stderr, env=environment, umask=UMASK, check=False).returncode != 0:
            sys.exit(f"could not install {', '.join(packages)} with pip; see above")


def python_with_pip(scratch):
    """Returns this Python, or, if it has no pip, one in a virtual environment with pip."""
    if importlib.util.find_spec("pip"):
        return sys.executable
    made = subprocess.run([sys.executable, "-m", "venv", scratch], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL, check=False)
    if made.returncode != 0:
        sys.exit(f"{sys.executable} has no pip; install it (Debian: apt-get install python3-pip)")
    return str(Path(scratch, "bin", "python"))
