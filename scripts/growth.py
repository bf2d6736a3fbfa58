"""Makes a spool old at once: adds tasks that a daemon has written before, under other ids; for `scripts/bench`.

    ended N SPOOL        adds N tasks that have ended, with all that each leaves behind
    bare N SPOOL         the same of which only the log and the tasks' files are left
    ready N SPOOL        adds N ready tasks

SPOOL is at rest and holds one task, which has succeeded: everything that it left is the pattern. The result is what a
daemon would have written; `gitspool fsck` finds nothing wrong with it. The tasks are of the last 30 days.
"""

import glob
import json
import os
import sys
import time

DAYS = 30
SEGMENT_BYTES = 8 * 1024 * 1024


def task_id(at_ms, number):
    """A UUID of version 7."""
    text = f"{at_ms:012x}7{number >> 20 & 0xFFF:03x}8{0:03x}{number:012x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def read(path):
    with open(path) as file:
        return file.read()


class Pattern:
    """What the one task has left: its lines, and its files."""

    def __init__(self, spool):
        self.spool = spool
        self.task_file = glob.glob(f"{spool}/queue/default/done/*/*.json")[0]
        self.id = os.path.basename(self.task_file)[:-5]
        self.date = self.task_file.split("/")[-2]
        self.now = glob.glob(f"{spool}/events/*/now.jsonl")[0]
        lines = [line for line in read(self.now).splitlines() if f'"{self.id}' in line]
        # Without the number, which is put in anew.
        self.lines = [line.split(",", 1)[1] for line in lines]
        self.spec = read(self.task_file)
        self.run = f"{spool}/runs/{self.date}/{self.id}.1"
        self.run_files = {name: read(f"{self.run}/{name}") for name in os.listdir(self.run)}
        self.receipt_path = glob.glob(f"{spool}/receipts/{self.date}/*.json")[0]
        receipt = json.loads(read(self.receipt_path))
        self.receipt, self.name = receipt, receipt["command"][:-5]

    def log_end(self):
        return json.loads(read(self.now).splitlines()[-1])["seq"]


class Log:
    """The spool's log, which goes on behind what is there."""

    def __init__(self, pattern):
        self.folder, self.now = os.path.dirname(pattern.now), pattern.now
        self.seq, self.bytes = pattern.log_end(), os.path.getsize(pattern.now)
        self.file = open(self.now, "a")

    def add(self, line):
        self.seq += 1
        text = f'{{"seq":{self.seq},{line}\n'
        self.file.write(text)
        self.bytes += len(text)
        return self.seq

    def rest(self, date):
        """Seals what is long enough."""
        if self.bytes > SEGMENT_BYTES:
            self.file.close()
            os.rename(self.now, f"{self.folder}/{date}-{self.seq:012}.jsonl")
            self.file, self.bytes = open(self.now, "a"), 0


def write(path, text):
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, 0o600)


def folder(path):
    os.makedirs(path, mode=0o700, exist_ok=True)


def main(kind, wanted, spool):
    wanted, pattern = int(wanted), Pattern(spool)
    log, checked = Log(pattern), []
    end_ms = int(time.time() * 1000) - 60_000
    begin_ms = end_ms - DAYS * 86_400_000
    pattern_at = json.loads(read(pattern.now).splitlines()[1])["at"]
    last_date = None
    for number in range(wanted):
        at_ms = begin_ms + (end_ms - begin_ms) * number // wanted
        task, name = task_id(at_ms, number), f"grown-{number}"
        when = time.gmtime(at_ms / 1000)
        date = time.strftime("%Y-%m-%d", when)
        if date != last_date:
            for top in ("queue/default/done", "runs", "receipts"):
                folder(f"{spool}/{top}/{date}")
            last_date = date
        at = time.strftime("%Y-%m-%dT%H:%M:%S.", when) + f"{at_ms % 1000:03}000Z"
        same = lambda text: text.replace(pattern.id, task)
        lines = [same(line).replace(line.split('"')[3], at) for line in pattern.lines]
        lines[0] = lines[0].replace(f'"name":"{pattern.name}', f'"name":"{name}')
        spec = pattern.spec.replace(f'"name": "{pattern.name}"', f'"name": "{name}"')
        seq = log.add(lines[0])
        if kind == "ready":
            write(f"{spool}/queue/default/ready/50-{task}.json", spec)
            state = {"is": "ready", "rank": 50, "attempts": 0}
            checked.append({"task": task, "queue": "default", "state": state, "spec_seq": seq})
        else:
            for line in lines[1:]:
                log.add(line)
            write(f"{spool}/queue/default/done/{date}/{task}.json", spec)
        log.rest(date)
        if kind == "bare":
            continue
        receipt = {**pattern.receipt, "command": f"{name}.json", "claim": task, "seq": seq, "at": at, "task": task}
        write(f"{spool}/receipts/{date}/{name}.json", json.dumps(receipt, indent=2) + "\n")
        if kind == "ended":
            run = f"{spool}/runs/{date}/{task}.1"
            os.mkdir(run, 0o700)
            for part, text in pattern.run_files.items():
                text = same(text)
                if part == "task.json":
                    text = text.replace(f'"name":"{pattern.name}"', f'"name":"{name}"')
                write(f"{run}/{part}", text)
    log.file.close()
    write(f"{spool}/.local/checkpoint.json", json.dumps({"seq": log.seq, "tasks": checked}))


main(*sys.argv[1:])
