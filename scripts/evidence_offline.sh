#!/usr/bin/env bash
# Runs scripts/evidence.py unattended on a machine without network, with a GPU, where PyTorch is there and the rest is
# not: installs the wheels that were brought along, goes on with the state that was, and packs all of it again.
#
#   scripts/evidence_offline.sh start BROUGHT MINUTES JOBS [options of evidence.py]   # in the background
#   scripts/evidence_offline.sh wait SECONDS FOLDER                                   # its log, and what is packed
#
# BROUGHT holds wheels/, data/ (the dataset's folder) and, where another machine has begun, state/ with what it packed.
# wait ends after SECONDS, or as soon as all is done; FOLDER then gets the packed state, in parts of at most 15 MiB.
set -euo pipefail
cd "$(dirname "$0")/.."
site=${TMPDIR:-/tmp}/pixelkeep-site
data=${TMPDIR:-/tmp}/pixelkeep-data
project=runs/evidence
log=$project/unattended.log
python=${PYTHON:-python3}
export PYTHONPATH=$site PYTHONUNBUFFERED=1 PIXELKEEP_HOME=${PIXELKEEP_HOME:-${TMPDIR:-/tmp}/pixelkeep-home}

install() {
    "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$site" "$1"/wheels/*.whl
    # Ultralytics asks polars for its table of epochs at every checkpoint, and does without where it cannot read it.
    "$python" -c 'import polars' 2>/dev/null ||
        printf 'def read_csv(*given, **options):\n    raise NotImplementedError("polars is not there")\n' >"$site/polars.py"
    mkdir -p "$data" "$project"
    cp -r "$1"/data/. "$data"
    if [ -d "$1/state" ]; then "$python" scripts/carry_evidence.py unpack "$1/state" "$project"; fi
}

case ${1:-} in
start)
    brought=$2 minutes=$3 jobs=$4
    shift 4
    install "$brought"
    rm -f "$project/done"
    setsid bash -c '"$@"; echo $? >"$0"' "$project/done" \
        "$python" scripts/evidence.py --form full --path "$data" --minutes "$minutes" --jobs "$jobs" \
        --project "$project" --out "$project/kept" "$@" >"$log" 2>&1 </dev/null &
    ;;
wait)
    end=$((SECONDS + $2))
    while [ ! -f "$project/done" ] && [ $SECONDS -lt $end ]; do sleep 2; done
    cat "$log"
    tail -n 3 "$project"/logs/*.log || true
    if [ -f "$project/done" ]; then
        "$python" scripts/carry_evidence.py pack "$project" "$3"
        exit "$(cat "$project/done")"
    fi
    echo "still at work"
    ;;
*)
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
