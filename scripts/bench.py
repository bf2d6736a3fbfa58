"""The parts of `scripts/bench` that wait, watch /proc, and reckon; not run by hand.

    drop N INBOX STAGING DONE       renames N no-op jobs into INBOX, waits until DONE holds N files
    drain N PAUSED DONE             removes the file PAUSED, waits until DONE holds N files more
    release N FD STAMP...           gives up the flock on FD (or `none`), waits until every STAMP says when it was made
    watch SECONDS NAME=PID...       what idle processes cost: wakeups, CPU, memory
    report ROWS FACTS JSON          the table, the targets, and the same as JSON

The first three print jobs per second. Waiting is by looks: rare while much is missing, every 2 ms at the end.
"""

import fcntl
import json
import os
import sys
import time

LIMIT_S = 180
LOOK_MIN_S = 0.002
LOOK_MAX_S = 0.1
# The exit code of `report` when a target was missed; Python's own troubles give 1.
MISSED = 3


def count(folder):
    """The tasks in a folder, or in the folders of dates inside it."""
    found = 0
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return 0
    for entry in entries:
        if entry.name.endswith(".json"):
            found += 1
        elif entry.is_dir():
            found += sum(name.endswith(".json") for name in os.listdir(entry.path))
    return found


def wait_for_count(folder, wanted, began, before=0):
    """Returns the seconds from `began` until `folder` holds `wanted` tasks; the pause fits what is missing."""
    while True:
        found = count(folder)
        passed = time.monotonic() - began
        if found >= wanted:
            return passed
        if passed > LIMIT_S:
            sys.exit(f"{folder} holds {found} of {wanted} tasks after {LIMIT_S} s")
        gained = found - before
        missing_s = passed * (wanted - found) / gained if gained > 0 else LOOK_MIN_S
        time.sleep(min(max(missing_s * 0.3, LOOK_MIN_S), LOOK_MAX_S))


def drop(wanted, inbox, staging, done):
    wanted = int(wanted)
    job = json.dumps({"run": ["/bin/true"], "workspace": {"kind": "none"}})
    names = [f"drop-{number:06}.json" for number in range(wanted)]
    for name in names:
        with open(os.path.join(staging, name), "w") as file:
            file.write(job)
    before = count(done)
    began = time.monotonic()
    for name in names:
        os.rename(os.path.join(staging, name), os.path.join(inbox, name))
    print(f"{wanted / wait_for_count(done, before + wanted, began, before):.1f}")


def drain(wanted, paused, done):
    wanted = int(wanted)
    before = count(done)
    began = time.monotonic()
    os.unlink(paused)
    print(f"{wanted / wait_for_count(done, before + wanted, began, before):.1f}")


def release(wanted, fd, *stamps):
    began = time.time_ns()
    if fd != "none":
        fcntl.flock(int(fd), fcntl.LOCK_UN)
    deadline = time.monotonic() + LIMIT_S
    ends = []
    for stamp in stamps:
        while not os.path.exists(stamp):
            if time.monotonic() > deadline:
                sys.exit(f"{stamp} is not there after {LIMIT_S} s")
            time.sleep(0.02)
        with open(stamp) as file:
            ends.append(int(file.read()))
    print(f"{int(wanted) * 1e9 / (max(ends) - began):.1f}")


def cost(pid):
    """Wakeups (voluntary switches) and CPU ns over all threads, and the process's memory in KiB."""
    wakeups = cpu = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/schedstat") as file:
            cpu += int(file.read().split()[0])
        with open(f"/proc/{pid}/task/{thread}/status") as file:
            wakeups += sum(int(line.split()[1]) for line in file if line.startswith("voluntary_ctxt"))
    with open(f"/proc/{pid}/status") as file:
        memory = {line.split(":")[0]: line.split()[1] for line in file if line.startswith(("VmRSS", "RssAnon"))}
    return wakeups, cpu, int(memory["VmRSS"]), int(memory["RssAnon"])


def watch(seconds, *named):
    pids = dict(name.split("=") for name in named)
    first = {name: cost(pid) for name, pid in pids.items()}
    time.sleep(float(seconds))
    for name, pid in pids.items():
        wakeups, cpu, rss, anon = cost(pid)
        wakeups, cpu = wakeups - first[name][0], cpu - first[name][1]
        print(f"{name} {wakeups} {cpu / 1e6:.2f} {rss / 1024:.2f} {anon / 1024:.2f}")


# What each measure is called, its unit, its floor and the peer that a target compares with.
MEASURES = {
    "sync": ("floor: appends of 200 bytes, each with fdatasync", "per s", None, None),
    "spawn": ("floor: /bin/true in a bash loop", "us", None, None),
    "submit": ("one submission by command line, queue held", "us", "true", "tsp"),
    "latency": ("submission to the job's first instruction, idle queue", "us", None, "tsp"),
    "drain": ("queued no-op jobs, 2 slots, from release to the last one done", "jobs/s", "xargs", "tsp"),
    "through": ("no-op jobs, 2 slots, from the first drop (tsp: submit) to the last one done", "jobs/s", None, "tsp"),
    "admit": ("dropped jobs taken into a paused queue", "jobs/s", None, None),
    "wakeups": ("voluntary context switches of an idle process, all threads", "", None, None),
    "cpu": ("CPU time of the same", "ms", None, None),
    "rss": ("memory (RSS)", "MB", None, None),
    "anon": ("memory that is the process's own (RssAnon)", "MB", None, None),
    "ended-submit": ("one submission, by number of ended tasks", "us", None, None),
    "ended-ls": ("one listing, by number of ended tasks", "us", None, None),
    "ended-start": ("daemon's start to a waiting job's first instruction, by number of ended tasks", "us", None, None),
    "ended-daemon": ("the same to the end of `daemon --drain`", "us", None, None),
    "growth-submit": ("one submission to an old or full spool", "us", None, None),
    "growth-status": ("status of it", "us", None, None),
    "growth-ls": ("one listing of it", "us", None, None),
    "growth-start": ("a dropped job's first instruction in another queue of it, from mv", "us", None, None),
    "growth-up": ("its daemon's start, until that has said so", "us", None, None),
    "growth-rss": ("its daemon's memory (RSS)", "MB", None, None),
}

LABELS = {
    "file": "one file",
    "true": "/bin/true in a loop",
    "xargs": "xargs -P2 (floor)",
    "nq2": "nq, 2 directories",
    "gitspool-alone": "gitspool, no daemon",
    "gitspool-drop": "gitspool, mv into inbox",
    "gitspool-submit": "gitspool submit",
    "gitspool-drained": "gitspool, after a drain",
}

# What is judged, how the value is found, the limit, and whether the value may be at most or at least it.
TARGETS = [
    ("submit: gitspool / tsp", ("submit", "gitspool", "tsp"), 1.2, "at most"),
    ("latency: median from mv, us", ("latency", "gitspool-drop", None), 3000, "at most"),
    ("latency: median from mv / tsp's", ("latency", "gitspool-drop", "tsp"), 1, "less than"),
    ("drain: gitspool / tsp, jobs/s", ("drain", "gitspool", "tsp"), 1, "at least"),
    ("idle daemon: context switches", ("wakeups", "gitspool", None), 2, "at most"),
    ("idle daemon: RSS in MB", ("rss", "gitspool", None), 10, "less than"),
    ("supervisor: RSS in MB", ("rss", "gitspool-supervisor", None), 3, "less than"),
    *(
        (f"{what}: many ended / none", (f"growth-{what}", "gitspool@many-ended", "gitspool@0"), 1.1, "at most")
        for what in ("submit", "status", "ls", "start")
    ),
    ("submit: many ready / none", ("growth-submit", "gitspool@many-ready", "gitspool@0"), 2, "at most"),
    ("start: many ready / none", ("growth-start", "gitspool@many-ready", "gitspool@0"), 2, "at most"),
    ("daemon: RSS in MB with very many ended", ("growth-rss", "gitspool@most-ended", None), 64, "less than"),
]

HOLDS = {"at most": lambda v, limit: v <= limit, "at least": lambda v, limit: v >= limit,
         "less than": lambda v, limit: v < limit}


def middle(values):
    values = sorted(values)
    half = len(values) // 2
    return values[half] if len(values) % 2 else (values[half - 1] + values[half]) / 2


def percentile(values, part):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * part))]


def short(value):
    if value is None or value == float("inf"):
        return "-" if value is None else "never"
    digits = 0 if value >= 100 or value == int(value) else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}"


def read_rows(path):
    """measure -> contender -> round -> values; and the attempts that gave none."""
    rows, failed = {}, []
    with open(path) as file:
        for line in file:
            measure, contender, number, value = line.rstrip("\n").split("\t")
            if value == "failed":
                failed.append({"measure": measure, "contender": contender, "round": int(number)})
                continue
            values = rows.setdefault(measure, {}).setdefault(contender, {}).setdefault(int(number), [])
            values.append(float(value))
    return rows, failed


def summary(by_round):
    """One contender in one measure. A missed sample is slower than any other: it counts as infinitely late."""
    pooled = [v if v >= 0 else float("inf") for values in by_round.values() for v in values]
    medians = [middle([v if v >= 0 else float("inf") for v in values]) for values in by_round.values()]
    result = {"median": middle(medians), "min": min(medians), "max": max(medians), "rounds": medians}
    if len(pooled) > len(medians):
        result.update(median=middle(pooled), p90=percentile(pooled, 0.9), p99=percentile(pooled, 0.99))
        result.update(samples=len(pooled), missed=sum(v == float("inf") for v in pooled))
    return result


def attempt(measure, contender):
    """The turn that measures this; one of `idle` or `growth` gives several numbers."""
    if measure.startswith("growth-"):
        return ("growth", "most" if contender == "gitspool@most-ended" else "gitspool")
    return ("idle", "gitspool") if measure in ("wakeups", "rss") else (measure, contender)


def judge(results, failed):
    verdicts = []
    for what, (measure, contender, peer), limit, relation in TARGETS:
        ours = results.get(measure, {}).get(contender)
        theirs = results.get(measure, {}).get(peer)
        verdict = {"target": what, "relation": relation, "limit": limit, "value": None, "verdict": "not judged"}
        if ours and (theirs or not peer):
            value = ours["median"] / theirs["median"] if peer else ours["median"]
            verdict.update(value=value, verdict="pass" if HOLDS[relation](value, limit) else "miss")
        elif not ours and any((f["measure"], f["contender"]) == attempt(measure, contender) for f in failed):
            verdict["verdict"] = "miss"
        verdicts.append(verdict)
    return verdicts


def table(results):
    for measure, (title, unit, floor, peer) in MEASURES.items():
        contenders = results.get(measure)
        if not contenders:
            continue
        ended = measure.startswith(("ended-", "growth-"))
        print(f"\n{title}{', ' + unit if unit else ''}")
        columns = [("x floor", "x_floor")] * bool(floor)
        columns += [("x " + peer if peer else "x none", "x_peer")] * bool(peer or ended)
        columns += [("p90", "p90"), ("p99", "p99")] * (measure in ("latency", "growth-start"))
        heads = "".join(f"{head:>9}" for head, _ in columns)
        print(f"  {'':28}{'median':>10}  {'[min-max] of rounds':22}{heads}".rstrip())
        for name, result in contenders.items():
            base = name.split("@")[0] + "@0" if ended else peer
            for key, other in (("x_floor", contenders.get(floor)), ("x_peer", contenders.get(base))):
                result[key] = result["median"] / other["median"] if other and other["median"] else None
            many = name.partition("@")[2].replace("-", " ")
            label = f"gitspool, {many}" if measure.startswith("growth-") else "{}, {} ended".format(*name.split("@")) if "@" in name else LABELS.get(name, name.replace("-", " "))
            spread = f"[{short(result['min'])}-{short(result['max'])}]"
            cells = "".join(f"{short(result.get(key)):>9}" for _, key in columns)
            missed = f"  {result['missed']} missed" if result.get("missed") else ""
            print(f"  {label:28}{short(result['median']):>10}  {spread:22}{cells}{missed}".rstrip())


def finite(value):
    """JSON knows no infinity: a sample that never came is null."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if value == float("inf") else value


def report(rows_path, facts_path, json_path):
    rows, failed = read_rows(rows_path)
    with open(facts_path) as file:
        facts = dict(line.rstrip("\n").split("\t", 1) for line in file)
    results = {measure: {name: summary(by_round) for name, by_round in contenders.items()}
               for measure, contenders in rows.items()}
    for key, value in facts.items():
        print(f"{key:12} {value}")
    table(results)
    verdicts = judge(results, failed)
    print("\ntargets")
    for v in verdicts:
        print(f"  {v['verdict']:11} {v['target']:34} {short(v['value']):>9}   {v['relation']} {v['limit']}")
    for f in failed:
        print(f"  failed: {f['measure']} of {f['contender']} in round {f['round']}")
    units = {measure: MEASURES[measure][1] for measure in results}
    document = {"format": 1, "facts": facts, "units": units, "measures": results, "targets": verdicts, "failed": failed}
    with open(json_path, "w") as file:
        json.dump(finite(document), file, indent=2)
        file.write("\n")
    missed = any(v["verdict"] == "miss" for v in verdicts) or any(f["contender"].startswith("gitspool") for f in failed)
    sys.exit(MISSED if missed else 0)


if __name__ == "__main__":
    verbs = {"drop": drop, "drain": drain, "release": release, "watch": watch, "report": report}
    verbs[sys.argv[1]](*sys.argv[2:])
