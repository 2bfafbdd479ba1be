# Sourced by ./alto-demo and ./alto-test (POSIX sh, from the top of the checkout): Debian packages in one transaction, and a
# virtual environment in ./.venv. Idempotent: a second run does nothing and takes a second. Says what it will do before.

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $1"; [ -z "${2:-}" ] || say "try: $2"; exit 1; }

# Packages of the sections named, from packaging/apt.txt.
packages_of() {
    for section in "$@"; do
        awk -v want="[$section]" '/^\[/ { on = ($0 == want) } !/^[#[]/ && NF && on' packaging/apt.txt
    done
}

missing_of() {
    for package in $(packages_of "$@"); do
        case "$(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null)" in
            ii*) ;;
            *) printf '%s ' "$package" ;;
        esac
    done
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null 2>&1; then sudo "$@"; else return 1; fi
}

# A Python of at least 3.11 that can make virtual environments; prints its path.
find_python() {
    for python in "${PYTHON:-}" python3 /usr/bin/python3 python3.13 python3.12 python3.11; do
        [ -n "$python" ] || continue
        if "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            command -v "$python"
            return 0
        fi
    done
    return 1
}

checksum() { cat "$@" | cksum; }

# install_packages SECTION...: one apt transaction, during which no daemon starts.
install_packages() {
    missing=$(missing_of "$@")
    [ -n "$missing" ] || return 0
    command -v apt-get >/dev/null 2>&1 || die "this is no Debian: these packages are missing: $missing" "install them by hand, then again"
    log=${TMPDIR:-/tmp}/alto-apt-$$.log
    say "apt: installing $missing"
    guard=/usr/sbin/policy-rc.d
    guarded=no
    if [ ! -e $guard ]; then
        # Debian's way to say that no service is to be started now; taken away again whatever happens.
        printf '#!/bin/sh\nexit 101\n' | as_root tee $guard >/dev/null && as_root chmod 755 $guard && guarded=yes
        trap '[ $guarded = no ] || as_root rm -f $guard' EXIT
        trap 'exit 130' INT TERM
    fi
    status=0
    {
        as_root env DEBIAN_FRONTEND=noninteractive apt-get update &&
            # shellcheck disable=SC2086
            as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing
    } >"$log" 2>&1 </dev/null || status=$?
    [ $guarded = no ] || as_root rm -f $guard
    trap - EXIT INT TERM
    if [ $status != 0 ]; then
        tail -n 15 "$log" >&2
        die "apt-get did not succeed (all it said: $log)" "apt-get install --no-install-recommends $missing"
    fi
    rm -f "$log"
}

# install_python LOCKFILE: ./.venv with exactly what the lock names, and Alto itself from this checkout.
install_python() {
    lock=$1
    want=$(checksum "$lock" pyproject.toml)
    if [ -x .venv/bin/alto ] && [ "$(cat .venv/alto-lock 2>/dev/null)" = "$lock $want" ]; then return 0; fi
    python=$(find_python) || die "no Python of 3.11 or newer with venv here" "apt-get install python3-venv"
    log=${TMPDIR:-/tmp}/alto-pip-$$.log
    say "python: $python, packages of $lock into ./.venv"
    : >"$log"
    # One that was made by a Python that is gone, or half made, is made anew.
    .venv/bin/python -c 'import pip' >/dev/null 2>&1 || "$python" -m venv --clear .venv >>"$log" 2>&1 ||
        { tail -n 15 "$log" >&2; die "no virtual environment could be made" "apt-get install python3-venv"; }
    pip_install() { .venv/bin/python -m pip install --disable-pip-version-check --no-input --quiet "$@" >>"$log" 2>&1; }
    if ! pip_install --require-hashes -r "$lock"; then
        # A mirror that builds its own wheels has other hashes for the same versions.
        say "python: the hashes in $lock do not hold with the index in use; going on with the same versions, unhashed"
        sed -e 's/ *\\$//' -e '/^ *--hash=/d' "$lock" >.venv/unhashed.txt
        pip_install -r .venv/unhashed.txt || { tail -n 15 "$log" >&2; die "pip did not succeed (all it said: $log)"; }
    fi
    # Without isolation: what builds Alto is in the lock, too.
    pip_install --no-deps --no-build-isolation -e . || { tail -n 15 "$log" >&2; die "Alto could not be installed (see $log)"; }
    # Now, as whoever owns the checkout: what root compiles later would be root's.
    .venv/bin/python -m compileall -q alto >>"$log" 2>&1 || true
    printf '%s' "$lock $want" >.venv/alto-lock
    rm -f "$log"
}

# plan SECTION... -- LOCKFILE: say what will be done; ask, when a person is there. Nothing to do: nothing is said.
plan() {
    sections=
    while [ "$1" != -- ]; do sections="$sections $1"; shift; done
    lock=$2
    # shellcheck disable=SC2086
    missing=$(missing_of $sections)
    venv=no
    if [ -x .venv/bin/alto ] && [ "$(cat .venv/alto-lock 2>/dev/null)" = "$lock $(checksum "$lock" pyproject.toml)" ]; then venv=yes; fi
    if [ -z "$missing" ] && [ $venv = yes ]; then return 0; fi
    say "This will:"
    [ -z "$missing" ] || say "  install Debian packages, and start none of their daemons: $missing"
    [ $venv = yes ] || say "  make ./.venv with $(grep -c '==' "$lock") Python packages ($lock)"
    say "  write nowhere else but ./.venv, /var/cache/alto (images) and temporary folders; ./alto-demo --purge removes ./.venv again"
    if [ -n "$missing" ] && [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null 2>&1; then
        die "packages are missing, and neither are you root nor is there sudo" "as root: apt-get install --no-install-recommends $missing"
    fi
    if [ "$yes" = no ] && [ -t 0 ] && [ -t 2 ]; then
        printf 'go on? [Y/n] ' >&2
        read -r answer
        case "$answer" in n* | N*) exit 130 ;; esac
    fi
}
