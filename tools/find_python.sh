#!/bin/sh
# Prints a Python that the course can use (3.11 or newer, with venv), or says on stderr what is missing.
# Use: tools/find_python.sh [PYTHON]     a PYTHON that is named is the only one tried

usable='import sys; sys.exit(sys.version_info < (3, 11))'
tested='import sys; sys.exit(sys.version_info >= (3, 14))'
venv='import ensurepip, venv'
newest= lacking=

for python in ${1:-python3 python3.13 python3.12 python3.11 python}; do
    "$python" -c "$usable" >/dev/null 2>&1 || continue
    if ! "$python" -c "$venv" >/dev/null 2>&1; then
        lacking=${lacking:-$python}
    elif "$python" -c "$tested" >/dev/null 2>&1; then
        echo "$python" && exit 0
    else
        newest=${newest:-$python}
    fi
done

if [ -n "$newest" ]; then
    echo "$newest"
elif [ -n "$lacking" ]; then
    echo "$lacking can make no virtual environments. On Debian and Ubuntu: sudo apt-get install python3-venv" >&2
    exit 1
else
    echo "The course needs Python 3.11 or newer${1:+, and $1 is not}. Install it (python.org, your package manager, conda)," \
        "or name one that you have: make course PYTHON=/path/to/python3" >&2
    exit 1
fi
