#!/usr/bin/env bash
# The Python environment that the Makefile's commands run in.
#   tools/setup.sh FOLDER   made in FOLDER (.venv), unless the stamp in it says that it is whole and up to date
#   tools/setup.sh ""       the current python3 as it is: installs nothing, says what is missing (make … VENV=)
# The stamp is written last, so that a set-up that was killed is seen, removed and made anew. Status 1 with one line
# if it cannot be made; that is found out before anything is written.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1
needed_gb=8
inputs=(requirements.txt constraints.txt tools/install_detectron2.py tools/setup.sh)

say() { echo "set-up: $*" >&2; }
stop() { say "$*"; exit 1; }

if [ -z "$venv" ]; then
  python3 -c "" 2>/dev/null || stop "VENV= asks for the current environment's python3, and there is none that runs"
  exec python3 tools/check_env.py --missing
fi

# Hashed by the environment's own Python: one that no longer runs never matches.
stamp() {
  "$venv/bin/python" - "${inputs[@]}" <<'PY'
import hashlib, pathlib, sys
total = hashlib.sha256(sys.version.encode())
for name in sys.argv[1:]:
    total.update(pathlib.Path(name).read_bytes())
print("setup", total.hexdigest())
PY
}
ready() {
  [ -f "$venv/setup-stamp" ] && today=$(stamp 2>/dev/null) && [ "$(cat "$venv/setup-stamp")" = "$today" ]
}
ready && exit 0

# Held by pip too, so that the pip of a killed set-up is never still writing where a new one starts.
if command -v flock >/dev/null; then
  exec 9>>requirements.txt
  flock -n 9 || { say "another set-up is at work here: waiting for it"; flock 9; }
  ready && exit 0
fi

# A name on PATH may be a shim that does not run; sys._base_executable is a Python outside any venv, this one included.
python='' reasons=''
for name in python3.13 python3.12 python3.11 python3; do
  version=$("$name" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
  case $version in
    3.11 | 3.12 | 3.13) ;;
    *) reasons+="; $name is Python $version"; continue ;;
  esac
  if "$name" -c 'import ensurepip, venv' 2>/dev/null; then
    python=$("$name" -c 'import sys; print(sys._base_executable)'); break
  fi
  reasons+="; $name has no ensurepip (on Debian or Ubuntu: apt-get install python$version-venv)"
done
[ -n "$python" ] || stop "needs Python 3.11, 3.12 or 3.13 with ensurepip${reasons:-; no python3 here runs}"

folder=$(dirname "$venv")
[ -d "$folder" ] || stop "there is no folder $folder to make $venv in"
if [ -e "$venv" ] || [ -L "$venv" ]; then
  [ "$venv" = .venv ] || [ -f "$venv/setup-stamp" ] || stop "$venv was not made by this set-up: name another folder"
  say "$venv is half-made or out of date: removing it"
  rm -rf "$venv"
fi
free_gb=$(($(df -Pk "$folder" | awk 'NR == 2 { print $4 }') / 1000000))
[ "$free_gb" -ge "$needed_gb" ] || stop "needs $needed_gb GB of free disk for $venv, and there are $free_gb"

say "making $venv with Python $version: about two minutes, 3 GB to download and 6 GB on disk"
trap 'rm -rf "$venv"' EXIT
mkdir "$venv"
echo unfinished >"$venv/setup-stamp"
unset PYTHONPATH PYTHONHOME
"$python" -m venv "$venv"
"$venv/bin/python" -m pip --disable-pip-version-check install -r requirements.txt -c constraints.txt \
  >&2 2> >(grep -v "is ignored: it is neither" >&2) || stop "pip could not install requirements.txt (see above): run it again"
"$venv/bin/python" tools/install_detectron2.py || stop "detectron2 could not be installed (see above): run it again"
trap - EXIT
stamp >"$venv/setup-stamp.new"
mv "$venv/setup-stamp.new" "$venv/setup-stamp"
say "$venv is ready ($SECONDS s)"
