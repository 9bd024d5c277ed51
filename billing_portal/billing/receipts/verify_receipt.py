#!/usr/bin/env python3
"""Verify a receipt without trusting who made it.

    python3 verify_receipt.py receipt.zip --root ROOT --key KEY
    python3 verify_receipt.py --call proof.json --root ROOT --key KEY

Needs Python 3.9 or newer and nothing else. It shares no code with the portal: it prices every call anew from its facts
and the price version, burns the credit again in its order, adds up every line, and checks hashes and signatures. It
says "verified", or names the first difference and exits with 1.

ROOT is the usage root at the foot of the invoice, KEY the public key that the vendor publishes, in hexadecimal. Without
them a receipt that agrees with itself is verified, but somebody may have made all of it: the last lines say what to
compare by eye.
"""

import argparse
import base64
import binascii
import hashlib
import json
import struct
import sys
import zipfile
import zlib
from bisect import bisect_right
from collections import Counter
from contextlib import closing

COMPONENTS = (
    *("platform", "voice", "llm", "telephony", "add_on", "per_call", "token_surcharge"),
    *("resolution", "procedure_handoff", "disqualification", "qualification"),
)
# In this order credit of several kinds is rounded; the ledger burns by the priority of each grant.
KINDS = ("correction", "welcome", "goodwill", "prepaid")
# Discounts come off last, of what credit leaves.
OFF = (*KINDS, "discount")
PER_UNIT = {"minute": 60_000, "second": 1_000, "call": 1, "thousand_tokens": 1_000}
USAGE = [
    "calls.jsonl",
    "prices.jsonl",
    "outcomes.jsonl",
    "rules.jsonl",
    "buckets.jsonl",
    "grants.jsonl",
    "ledger.jsonl",
    "interims.jsonl",
    "reports.jsonl",
]
INVOICE = ["lines.jsonl", "invoice.jsonl"]
# From this format on, the invoice says whom it is made out to, and its tax by rate.
WITH_PARTY = 2
ADDRESS = ("line1", "line2", "postal_code", "city", "state", "country")
# From this one on, it says what earlier payments that went back were for.
WITH_DEBTS = 3
ENTRIES = [*USAGE, *INVOICE, "payments.jsonl", "usage.json", "invoice.json", "subtrees.json", "signatures.json"]
SEAL = "seal.json"
CHUNK = 1_024
BLOCK = 1 << 20
PURPOSE = b"billing portal receipt "


class Difference(Exception):
    """The first thing that is not as it should be."""

    def __init__(self, where, what):
        super().__init__(f"{where}: {what}")


# ── Hashes ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def leaf_hash(line):
    return hashlib.sha256(b"\0" + line).digest()


def merkle_root(hashes):
    """Return the root over hashes; neighbours join, the last of an odd number goes up alone."""
    if not hashes:
        return hashlib.sha256().digest()
    while len(hashes) > 1:
        joined = [hashlib.sha256(b"\1" + a + b).digest() for a, b in zip(hashes[::2], hashes[1::2])]  # noqa: B905
        hashes = joined + hashes[len(joined) * 2 :]
    return hashes[0]


def head_root(head):
    """Return the root that a head, or a payment record, stands for."""
    return hashlib.sha256(b"\2" + head).hexdigest()


class Lines:
    """The lines of one file in order, hashed as they are read."""

    def __init__(self, archive, name):
        self.name, self.number = name, 0
        self.subtrees, self._leaves, self.leaf = [], [], b""
        self._raw = self.texts(archive)

    def __iter__(self):
        return self

    def __next__(self):
        line = next(self._raw)
        self.number += 1
        self.leaf = leaf_hash(line)
        self._leaves.append(self.leaf)
        if len(self._leaves) == CHUNK:
            self._close()
        return load(line, self.where)

    @property
    def where(self):
        return f"{self.name}, line {self.number:,}"

    def root(self):
        """Return the root over all lines, reading those that nobody asked for."""
        for _ in self:
            pass
        if self._leaves:
            self._close()
        return merkle_root(self.subtrees).hex()

    def stop(self):
        """Let go of the file, however far it was read."""
        self._raw.close()

    def _close(self):
        self.subtrees.append(merkle_root(self._leaves))
        self._leaves = []

    def texts(self, archive):
        """Yield the lines as they stand in the file."""
        rest = b""
        with archive.open(self.name) as file:
            while block := file.read(BLOCK):
                *lines, rest = (rest + block).split(b"\n")
                yield from lines
        if rest:
            raise Difference(self.name, "it ends in the middle of a line")


def load(text, where):
    """Return the value of a JSON text of whole numbers."""
    try:
        return DECODER.decode(text.decode())
    except ValueError as error:
        raise Difference(where, f"it is no JSON that a receipt may hold: {error}") from None


def _whole(text):
    raise ValueError(f"{text} is no whole number")


DECODER = json.JSONDecoder(parse_float=_whole, parse_constant=_whole)


# ── What a call costs ─────────────────────────────────────────────────────────────────────────────────────────────────


def half_up(numerator, denominator):
    """Return the nearest whole number, halves away from zero."""
    whole = (2 * abs(numerator) + denominator) // (2 * denominator)
    return whole if numerator >= 0 else -whole


def up(numerator, denominator):
    return -(-numerator // denominator)


class Prices:
    """The rates of one set of products under one price version, ready to price many calls."""

    def __init__(self, line, where):
        rates = line["rates"]
        self.grace, self.free, self.threshold = line["grace_ms"], line["free_ms"], line["token_threshold"]
        self.version = (line["book"], line["number"])
        self.terms = (line["currency"], line["starts_at"], self.grace, self.free, self.threshold, line["surcharge"])
        self.rates_by_product = {rate[1]: tuple(rate) for rate in rates}
        order = [(COMPONENTS.index(rate[0]), rate[1]) for rate in rates]
        products = set(line["products"]) - {line["surcharge"]}
        if order != sorted(order) or products != {rate[1] for rate in rates} or len(order) != len(products):
            raise Difference(where, "its rates are not those of its products, in the order of components")
        self.components = [rate[0] for rate in rates]
        self.rates = []
        for component, _, unit, rate, minimum, increment in rates:
            per = PER_UNIT[unit]
            is_time = unit in ("minute", "second")
            llm_minute = rate * (1 if unit == "minute" else 60) if is_time and component == "llm" else 0
            self.rates.append((unit, rate, per, minimum, increment if is_time else 0, llm_minute))
        self.has_surcharge = line["surcharge"] is not None
        if self.has_surcharge:
            self.components.append("token_surcharge")

    def lines(self, duration, tokens, requests):
        """Return what a call costs, line by line in micros, without the zeros at the end."""
        if duration < self.grace:
            return []
        billable = duration - self.free
        micros, llm_ms, llm_minute = [], 0, 0
        for unit, rate, per, minimum, increment, of_llm in self.rates:
            if increment:
                quantity = -(-max(billable, minimum) // increment) * increment if billable > 0 else 0
            else:
                quantity = 1 if unit == "call" else tokens
            micros.append((2 * quantity * rate + per) // (2 * per))
            if of_llm:
                llm_ms = max(llm_ms, quantity)
                llm_minute += of_llm
        if self.has_surcharge:
            allowed = requests * self.threshold
            more = 0
            if allowed and tokens > allowed and llm_minute:
                seconds = up(llm_ms, 1_000)
                more = up(seconds * tokens, allowed) - seconds
            micros.append(half_up(more * 1_000 * llm_minute, 60_000))
        while micros and not micros[-1]:
            micros.pop()
        return micros


def by_component(components, micros):
    sums = Counter()
    for component, each in zip(components, micros):  # noqa: B905 - zeros at the end are left out
        sums[component] += each
    return {component: each for component, each in sums.items() if each}


def what_changed(components, price, before):
    """Return (micros charged line by line, micros given back by component) of a price that replaces another."""
    now = by_component(components, price)
    more = {component: max(0, micros - before.get(component, 0)) for component, micros in now.items()}
    charged = []
    for component, micros in zip(components, price):  # noqa: B905
        part = min(micros, more.get(component, 0))
        if part:
            more[component] -= part
        charged.append(part)
    while charged and not charged[-1]:
        charged.pop()
    less = {component: micros - now.get(component, 0) for component, micros in before.items()}
    return charged, {component: micros for component, micros in less.items() if micros > 0}


# ── The receipt ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Receipt:
    """One receipt while it is verified: what its files come to."""

    def __init__(self, archive):
        self.archive = archive
        self.files = {name: Lines(archive, name) for name in (*USAGE, *INVOICE)}
        self.usage, self.invoice = self._json("usage.json"), self._json("invoice.json")
        self.signatures, self.subtrees = self._json("signatures.json"), self._json("subtrees.json")
        self.per_minor = 10 ** (6 - self.usage["minor_digits"])
        self.gross, self.accrued, self.burnt = Counter(), Counter(), Counter()
        self.late = self.outcomes = 0
        self.billed_micros, self.billed_minor, self.interim_lines = Counter(), Counter(), {}
        self.other_minor, self.debt_lines, self.debts = 0, [], None
        self.forgiven_of, self.discounted, self.discount_terms = Counter(), Counter(), []

    def verify(self):
        """Recompute everything, then check every hash. Raises Difference."""
        steps = (self._prices, self._corrected_calls, self._terms, self._ledger, self._reports, self._lines)
        try:
            for step in (*steps, self._hashes):
                self._clearly(step)
        finally:
            for lines in self.files.values():
                lines.stop()

    def _clearly(self, what):
        """Name the line where something is missing or of another type than it must be."""
        try:
            what()
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            reading = [each for each in self.files.values() if each.number]
            where = getattr(self, "place", None) or (reading[-1].where if reading else "the receipt")
            raise Difference(where, f"something is missing, or is not what it should be ({error!r})") from error

    def _json(self, name):
        return load(self.archive.read(name), name)

    def _each(self, name):
        lines = self.files[name]
        for line in lines:
            self.place = lines.where
            yield line
        self.place = name

    def minor(self, micros):
        return half_up(micros, self.per_minor)

    # What prices, rules, grants and buckets there are

    def _prices(self):
        self.prices, versions, rates = {}, {}, {}
        lines = self.files["prices.jsonl"]
        for line in self._each("prices.jsonl"):
            name = base64.urlsafe_b64encode(lines.leaf).decode()
            prices = self.prices[name.rstrip("=")] = Prices(line, self.place)
            if line["currency"] != self.usage["currency"]:
                raise Difference(self.place, f"its currency is {line['currency']}, not {self.usage['currency']}")
            if versions.setdefault(prices.version, prices.terms) != prices.terms:
                raise Difference(self.place, f"{prices.version} has other terms than before")
            for product, rate in prices.rates_by_product.items():
                if rates.setdefault((prices.version, product), rate) != rate:
                    raise Difference(self.place, f"{product} has another rate than before in {prices.version}")

    def _terms(self):
        self.rules = {}
        for line in self._each("rules.jsonl"):
            self.rules[line["book"], line["number"]] = line
        self.buckets = {line["bucket"]: line for line in self._each("buckets.jsonl")}
        self.grants, self.left = {}, {}
        for line in self._each("grants.jsonl"):
            name = line["grant"]
            if name in self.grants:
                raise Difference(self.place, f"the grant {name} stands twice")
            if not 0 <= line["opening_micros"] <= line["amount_micros"]:
                raise Difference(self.place, f"{name} opens with {line['opening_micros']:,}, which it cannot hold")
            if line["currency"] != self.usage["currency"] or line["kind"] not in KINDS:
                raise Difference(self.place, f"{name} is no credit of this account")
            self.grants[name], self.left[name] = line, line["opening_micros"]
        # None expires last; what was made first comes first.
        order = enumerate(self.grants.items())
        key = {name: (g["priority"], g["expires_at"] or "~", g["created_at"], place) for place, (name, g) in order}
        self.burn_order = sorted(self.grants, key=key.__getitem__)

    def _corrected_calls(self):
        """Find which calls were corrected, so that what a revision replaces can be held against it."""
        self.corrected = {}
        with closing(self.files["calls.jsonl"].texts(self.archive)) as texts:
            for text in texts:
                if b'"revision":' in text:
                    self.corrected[load(text, "calls.jsonl")["call_id"]] = None

    # The ledger, and with it every call and outcome

    def _ledger(self):
        calls, outcomes = self._each("calls.jsonl"), self._each("outcomes.jsonl")
        ledger = self.files["ledger.jsonl"]
        interims = {}
        for line in self._each("interims.jsonl"):
            interims.setdefault(line["ledger_lines"], []).append((line, self.place))
        self.settlements, self.forgiven, reached = [], {}, None
        for line in ledger:
            self.place = here = ledger.where
            if line["kind"] == "settle":
                same(here, "the first charge", line["first"] if reached is None else reached + 1, line["first"])
                reached = line["last"]
                if line["month"] == self.usage["month"]:
                    self._settle(line, calls if line["source"] == "calls" else outcomes, here)
            elif line["kind"] == "discount":
                self._discount(line, here)
            elif "parts" in line:
                self._adjust(line, here)
            self._move(line, here)
            for interim, place in interims.pop(ledger.number, []):
                self._interim(interim, place)
        same("interims.jsonl", "invoices that saw more of the ledger than there is", 0, len(interims))
        same("ledger.jsonl", "what discounts take off in the end", self._discounts_due(), positive(self.discounted))
        for stream in (calls, outcomes):
            for line in stream:
                raise Difference(self.place, f"charge {line['sequence']} is in no settlement")

    def _settle(self, line, charges, here):
        """Price every charge of a settlement, and burn the credit again."""
        spendable = [
            [name, self.left[name]]
            for name in self.burn_order
            if self.left[name] > 0 and (self.grants[name]["expires_at"] or "~") > line["at"]
        ]
        gross, accrued, burnt = Counter(), Counter(), Counter()
        given, place, of_calls = {}, 0, line["source"] == "calls"
        for expected in range(line["first"], line["last"] + 1):
            charge = next(charges, None)
            if charge is None or charge["sequence"] != expected:
                found = "the end" if charge is None else f"charge {charge['sequence']}"
                raise Difference(self.place, f"charge {expected} is missing, here is {found}")
            components, micros = self._call(charge, given) if of_calls else self._outcome(charge)
            for component, each in zip(components, micros):  # noqa: B905
                gross[component] += each
                owed = each
                while owed and place < len(spendable):
                    taken = min(owed, spendable[place][1])
                    burnt[place, component] += taken
                    spendable[place][1] -= taken
                    owed -= taken
                    if not spendable[place][1]:
                        place += 1
                accrued[component] += owed
        burns = [[spendable[grant][0], component, micros] for (grant, component), micros in sorted(burnt.items())]
        subject = f"the settlement of charges {line['first']} to {line['last']}"
        same(here, f"gross of {subject}", positive(gross), line["gross"])
        same(here, f"credit burnt by {subject}", [each for each in burns if each[2]], line["burns"])
        same(here, f"what is left to the card of {subject}", positive(accrued), line["accrued"])
        same(here, f"what {subject} took from grants", negated(burns), line["credit"])
        self._given_back(line, given, here)
        self.settlements.append((line["first"], line["last"], line["gross"]))
        self.gross.update(gross)
        self.accrued.update(accrued)
        for name, component, micros in burns:
            self.burnt[self.grants[name]["kind"], component] += micros

    def _call(self, call, given):
        prices = self.prices.get(call["prices"])
        if prices is None:
            raise Difference(self.place, f"call {call['call_id']} names prices that prices.jsonl does not have")
        price = prices.lines(call["duration_ms"], call["llm_tokens"], call["llm_requests"])
        charged = price
        call_id = call["call_id"]
        if "revision" in call:
            same(self.place, f"the price of call {call_id}", price, call["price"])
            before = call["before"]
            if (known := self.corrected[call_id]) is not None:
                same(self.place, f"what revision {call['revision']} of call {call_id} replaces", known, before)
            charged, back = what_changed(prices.components, price, before)
            same(self.place, f"what call {call_id} gives back", back, call["given_back"])
            if back:
                given[f"correction:{call_id}:{call['revision']}"] = sum(back.values())
        if charged != call["lines"]:
            same(self.place, f"the lines of call {call_id}", charged, call["lines"])
        if sum(charged) != call["micros"]:
            same(self.place, f"the sum of call {call_id}", sum(charged), call["micros"])
        if call_id in self.corrected:
            self.corrected[call_id] = by_component(prices.components, price)
        if call["started_at"] >= self.usage["ends_at"]:
            raise Difference(self.place, f"call {call_id} began after the month had ended")
        self.late += call["started_at"] < self.usage["starts_at"]
        return prices.components, charged

    def _outcome(self, line):
        """Return what an outcome costs by its rules; a bucket's unit, or a reversal, costs nothing."""
        subject = f"{line['outcome']} of conversation {line['conversation']}"
        self.outcomes += 1
        if line["decided_at"] >= self.usage["ends_at"]:
            raise Difference(self.place, f"{subject} was decided after the month had ended")
        rules = self.rules.get(tuple(line["rules"]))
        if rules is None:
            raise Difference(self.place, f"{subject} names rules that rules.jsonl does not have")
        same(self.place, f"the list price of {subject}", rules["prices"][line["outcome"]], line["price_micros"])
        bucket = None if line["bucket"] is None else self.buckets[line["bucket"]]
        if line["kind"] == "reversal":
            self._reversal(line, bucket, subject)
            return (), ()
        if bucket is not None and not (
            line["outcome"] in bucket["outcomes"] and bucket["starts_at"] <= line["decided_at"] < bucket["expires_at"]
        ):
            raise Difference(self.place, f"the bucket may not pay for {subject}")
        due = 0 if bucket else line["price_micros"]
        same(self.place, f"the charge for {subject}", due, line["micros"])
        return (line["outcome"],), (due,)

    def _reversal(self, line, bucket, subject):
        """Hold what a reversal gave back against what its charge had taken."""
        same(self.place, f"the charge for taking back {subject}", 0, line["micros"])
        taken = line["reverses"]
        if bucket is not None:
            same(self.place, f"the bucket that gets back {subject}", taken["bucket"], line["bucket"])
            return
        due = taken["micros"]
        if taken["bucket"] is not None:
            terms = self.buckets[taken["bucket"]]
            due = half_up(terms["price_micros"], terms["size"])
        grant = self.grants.get(line["gives_back"])
        same(self.place, f"what is given back for {subject}", due, grant["amount_micros"] if grant else 0)

    def _given_back(self, line, given, here):
        """Hold the credit that a settlement gave against what its revisions cost less."""
        granted = {name: self.grants[name]["amount_micros"] for name, _ in line["give_backs"]}
        for name in given.keys() & granted.keys():
            same(here, f"the credit {name}", given[name], granted[name])
        same(here, "what its corrected calls give back", sum(given.values()), sum(granted.values()))

    def _adjust(self, line, here):
        """Take off what was forgiven of the month, or what credit paid of it afterwards; or put it back."""
        if line["kind"] == "set_off":
            taken = Counter()
            for name, component, micros in line["parts"]:
                taken[name] -= micros
                if line["month"] == self.usage["month"]:
                    self.burnt[self.grants[name]["kind"], component] += micros
                    self.accrued[component] -= micros
            same(here, "what was taken from grants", dict(taken), line["credit"])
            return
        sign = 1
        if line["kind"] == "reverse":
            same(here, "what is put back", self.forgiven.pop(line["reverses"], None), line["parts"])
            sign = -1
        else:
            self.forgiven[line["reference"]] = line["parts"]
        for component, micros in line["parts"]:
            self.burnt["goodwill", component] += sign * micros
            self.accrued[component] -= sign * micros
            self.forgiven_of[component] += sign * micros

    def _discount(self, line, here):
        """Compute anew what discounts take off the month so far, and hold what is posted against it."""
        self.discount_terms = line["terms"]
        names = [name for name, _, _ in self.discount_terms]
        same(here, "the number of discounts", len(set(names)), len(names))
        if any((hundredths is None) == (amount is None) for _, hundredths, amount in self.discount_terms):
            raise Difference(here, "a discount must be either a per cent or an amount")
        for name, component, micros in line["parts"]:
            self.discounted[name, component] += micros
            self.burnt["discount", component] += micros
            self.accrued[component] -= micros
        same(here, "the month", self.usage["month"], line["month"])
        same(here, "what discounts take off", self._discounts_due(), positive(self.discounted))

    def _discounts_due(self):
        """Return the micros that discounts take off, by name and component.

        One after the other takes its part of what is left to bill, in whole minor units, from each component as much of
        it as it has of the whole, by largest remainder. What is covered whole is covered to the micro.
        """
        base, room, micros, found = 0, [], [], {}
        for component in COMPONENTS:
            gross, credit = self.gross[component], sum(self.burnt[kind, component] for kind in KINDS)
            base += self.minor(gross) - self.minor(credit - self.forgiven_of[component])
            room.append(self.minor(gross) - self.minor(credit))
            micros.append(gross - credit)
        for name, hundredths, amount in self.discount_terms:
            off = min(amount, base) if hundredths is None else half_up(base * hundredths, 10_000)
            base -= off
            whole = sum(room)
            off = min(off, whole)
            parts = [off * each // whole if whole else 0 for each in room]
            rests = sorted(range(len(room)), key=lambda place: (-(off * room[place] % whole) if whole else 0, place))
            for place in rests[: off - sum(parts)]:
                parts[place] += 1
            for place, part in enumerate(parts):
                if part:
                    room[place] -= part
                    taken = part * self.per_minor if room[place] else micros[place]
                    micros[place] -= taken
                    found[name, COMPONENTS[place]] = taken
        return found

    def _move(self, line, here):
        """Move the grants as a transaction says; none may go below zero or above what was given."""
        for name, micros in line["credit"].items():
            grant = self.grants.get(name)
            if grant is None:
                raise Difference(here, f"it moves the grant {name}, which grants.jsonl does not have")
            self.left[name] += micros
            if line["kind"] == "grant":
                same(here, f"what {name} gives", grant["amount_micros"], micros)
            elif line["kind"] == "expire":
                same(here, f"what is left of {name} when it expires", 0, self.left[name])
                if not grant["expires_at"] or grant["expires_at"] > line["at"]:
                    raise Difference(here, f"{name} has not expired")
            if not 0 <= self.left[name] <= grant["amount_micros"]:
                raise Difference(here, f"{name} has {self.left[name]:,} micros left, which it cannot hold")

    def _interim(self, interim, place):
        """Bill what an interim invoice billed, from what the month came to when it was written."""
        found = {}
        for component in COMPONENTS:
            minor = self._net(component) - self.billed_minor[component]
            micros = self.accrued[component] - self.billed_micros[component]
            if micros or minor:
                found[component] = [micros, minor]
        same(place, "what the interim invoice bills", found, {name: [a, b] for name, a, b in interim["lines"]})
        if not self.settlements or interim["last"] != self.settlements[-1][1]:
            raise Difference(place, f"it covers charges up to {interim['last']}, the ledger goes elsewhere")
        self.interim_lines = found
        if interim["interim"] == self.usage["interim"]:
            return
        for component, (micros, minor) in found.items():
            self.billed_micros[component] += micros
            self.billed_minor[component] += minor

    def _net(self, component):
        burnt = sum(self.burnt[kind, component] for kind in OFF)
        return self.minor(self.gross[component]) - self.minor(burnt)

    # What Stripe was told, and what it made of it

    def _reports(self):
        """Hold what Stripe's meters were told against the settlements, each of which is reported once."""
        batches = []
        for line in self._each("reports.jsonl"):
            due = Counter()
            for first, last in line["settlements"]:
                batches.append((first, last, due, self.place, line))
        if self.usage["interim"] is not None:
            return
        batches.sort(key=lambda each: each[0])
        firsts = [first for first, *_ in batches]
        covered = Counter()
        for first, last, gross in self.settlements:
            found = bisect_right(firsts, first) - 1
            if found < 0 or batches[found][1] < last:
                raise Difference("reports.jsonl", f"charges {first} to {last} were never reported")
            batches[found][2].update(gross)
            covered[found] += last - first + 1
        for number, (first, last, due, place, line) in enumerate(batches):
            same(place, f"charges {first} to {last} that are settled", covered[number], last - first + 1)
            reported = {component: micros for component, micros, _ in line["reports"]}
            same(place, "what was reported", positive(due), reported)

    def _lines(self):
        """Bill the month again, and hold it against every line of the invoice."""
        due = self._due()
        total = 0
        for line in self._each("lines.jsonl"):
            total += line["amount_minor"]
            same(self.place, "the currency", self.usage["currency"], line["currency"])
            key = (line["kind"], line["component"], line["grant_kind"])
            if line["kind"] == "other":
                self.other_minor += line["amount_minor"]
                continue
            if line["kind"] == "debt":
                same(self.place, "the component and the kind of credit", "", line["component"] + line["grant_kind"])
                self.debt_lines.append((line["amount_minor"], line["description"], self.place))
                continue
            quantity, amount = due.pop(key, (0, 0))
            if line["kind"] == "usage":
                same(self.place, f"the quantity of {line['description']}", quantity, line["quantity"])
            same(self.place, f"the amount of {line['description']}", amount, line["amount_minor"])
        for key, (quantity, amount) in due.items():
            if quantity or amount:
                raise Difference("lines.jsonl", f"the line {' '.join(filter(None, key))} of {amount} is missing")
        (self.amounts,) = self._each("invoice.jsonl")
        amounts, here = self.amounts, "invoice.jsonl"
        same(here, "the subtotal", total, amounts["subtotal_minor"])
        same(here, "the total", amounts["subtotal_minor"] + amounts["tax_minor"], amounts["total_minor"])
        same(here, "the currency", self.usage["currency"], amounts["currency"])
        if self.invoice["format"] >= WITH_PARTY:
            taxes = amounts["taxes"]
            net = amounts["total_minor"] - amounts["tax_minor"]
            same(here, "what the rates of tax are on", net, sum(tax["net_minor"] for tax in taxes))
            same(here, "the tax at all rates", amounts["tax_minor"], sum(tax["tax_minor"] for tax in taxes))
        if self.invoice["format"] >= WITH_DEBTS:
            self.debts = amounts["debts"]
            self._owed_again(here)

    def _owed_again(self, here):
        """Compute each debt from what went back of its payment, and hold the lines against them, in their order."""
        for debt in self.debts:
            subject = f"what is owed again of invoice {debt['number']}"
            gone = min(sum(minor for _, _, minor in debt["went_back"]), debt["total_minor"])
            net = debt["total_minor"] - debt["tax_minor"]
            most = half_up(gone * net, debt["total_minor"]) * self.per_minor if debt["total_minor"] > 0 else 0
            owed = debt["owed_micros"]
            if debt["billed"] == "usage":
                same(here, subject, most, owed)
            elif debt["billed"] == "credit" and not 0 <= owed <= most:
                raise Difference(here, f"{subject} must be at most {shown(most)}, but {shown(owed)} stands here")
            same(here, f"{subject} and not billed yet", owed - debt["billed_micros"], debt["micros"])
            same(here, f"{subject}, as it is billed", self.minor(owed) - debt["billed_minor"], debt["amount_minor"])
        billed = [debt for debt in self.debts if debt["amount_minor"]]
        same(here, "lines of what is owed again", len(billed), len(self.debt_lines))
        left = list(self.debt_lines)
        for debt in billed:
            name = debt["number"] or "earlier"
            found = [line for line in left if line[0] == debt["amount_minor"] and f" {name} " in f" {line[1]} "]
            if not found:
                raise Difference("lines.jsonl", f"no line bills {shown(debt['amount_minor'])} of invoice {name}")
            left.remove(found[0])

    def _due(self):
        """Return the lines that there must be: (quantity, amount) by kind, component and kind of credit."""
        if self.usage["interim"] is not None:
            return {("interim", component, ""): (0, minor) for component, (_, minor) in self.interim_lines.items()}
        due = {}
        for component in COMPONENTS:
            due["usage", component, ""] = (self.gross[component], self.minor(self.gross[component]))
            due["deduction", component, ""] = (0, -self.billed_minor[component])
            before = 0
            for kind in OFF:
                after = before + self.burnt[kind, component]
                due["credit", component, kind] = (0, self.minor(before) - self.minor(after))
                before = after
        return due

    # Hashes, signatures, payments

    def _hashes(self):
        """Hold the root of every file against the heads, and the heads against the roots that are signed."""
        for head, names in (("usage", USAGE), ("invoice", INVOICE)):
            files = getattr(self, head)["files"]
            same(f"{head}.json", "the files", sorted(names), sorted(files))
            for name in names:
                lines = self.files[name]
                if [lines.number, lines.root()] != files[name]:
                    raise Difference(self._changed(lines), "it is not what was signed")
            root = head_root(self.archive.read(f"{head}.json"))
            same("signatures.json", f"the {head} root", root, self.signatures[head]["root"])
        same("subtrees.json", "the files", sorted(USAGE), sorted(self.subtrees))
        for name in USAGE:
            same("subtrees.json", name, [each.hex() for each in self.files[name].subtrees], self.subtrees[name])
        same("invoice.json", "the usage root", self.signatures["usage"]["root"], self.invoice["usage"])
        same("invoice.json", "the invoice", self.usage["invoice"], self.invoice["invoice"])
        same("invoice.jsonl", "the invoice", self.usage["invoice"], self.amounts["invoice"])
        self._payments()
        self._signed()

    def _changed(self, lines):
        """Return which lines of a file are not what was signed, as closely as the subtrees tell."""
        signed = self.subtrees.get(lines.name, [])
        for number, subtree in enumerate(lines.subtrees):
            if number < len(signed) and subtree.hex() != signed[number] and len(lines.subtrees) > 1:
                first = number * CHUNK + 1
                return f"{lines.name}, lines {first:,} to {min(first + CHUNK - 1, lines.number):,}"
        return lines.name

    def _payments(self):
        before, self.payments = self.signatures["invoice"]["root"], []
        for number, body in enumerate(self.archive.read("payments.jsonl").splitlines(), 1):
            self.place = f"payments.jsonl, line {number}"
            record = load(body, self.place)
            same(self.place, "the number", number, record["number"])
            same(self.place, "what stands before it", before, record["before"])
            same(self.place, "the invoice", self.usage["invoice"], record["invoice"])
            same(self.place, "the currency", self.usage["currency"], record["currency"])
            if record["state"] in ("open", "paid", "uncollectible"):
                owed = self.amounts["total_minor"] + self.amounts["starting_balance_minor"]
                settled = record["pre_credited_minor"] + (record["ending_balance_minor"] or 0)
                same(self.place, "the amount due", owed - settled, record["amount_due_minor"])
            if record["state"] == "paid" and not record["pre_credited_minor"]:
                same(self.place, "what is paid", record["amount_due_minor"], record["amount_paid_minor"])
            before = head_root(body)
            self.payments.append(record)
            if len(self.signatures["payments"]) < number:
                raise Difference(self.place, "it is not signed")
            same("signatures.json", f"payment record {number}", before, self.signatures["payments"][number - 1]["root"])
        same("signatures.json", "signed payment records", len(self.payments), len(self.signatures["payments"]))

    def _signed(self):
        self.keys = set()
        for signed in (self.signatures["usage"], self.signatures["invoice"], *self.signatures["payments"]):
            self.keys.add(check_signature(signed, self.signatures["keys"]))
        same("signatures.json", "the keys", len(self.keys), len(self.signatures["keys"]))


def same(where, what, due, found):
    """Raise Difference unless two values are the same."""
    if due != found or (isinstance(found, bool) and not isinstance(due, bool)):
        raise Difference(where, f"{what} must be {shown(due)}, but {shown(found)} stands here")


def shown(value):
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def positive(sums):
    return {key: micros for key, micros in sums.items() if micros}


def negated(burns):
    taken = Counter()
    for name, _, micros in burns:
        taken[name] -= micros
    return positive(taken)


# ── Signatures: Ed25519 (RFC 8032), checked with whole numbers alone ──────────────────────────────────────────────────

PRIME = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
CURVE = -121665 * pow(121666, PRIME - 2, PRIME) % PRIME
ROOT_OF_MINUS_ONE = pow(2, (PRIME - 1) // 4, PRIME)


def point_of(encoded):
    """Return a point from its 32 bytes: x, y, z and x·y, projective."""
    y = int.from_bytes(encoded, "little")
    is_odd, y = y >> 255, y & (2**255 - 1)
    square = (y * y - 1) * pow(CURVE * y * y + 1, PRIME - 2, PRIME) % PRIME
    x = pow(square, (PRIME + 3) // 8, PRIME)
    if x * x % PRIME != square:
        x = x * ROOT_OF_MINUS_ONE % PRIME
    if x * x % PRIME != square or y >= PRIME or (not x and is_odd):
        raise ValueError("no point of the curve")
    if x & 1 != is_odd:
        x = PRIME - x
    return x, y, 1, x * y % PRIME


def plus(a, b):
    down, over = (a[1] - a[0]) * (b[1] - b[0]), (a[1] + a[0]) * (b[1] + b[0])
    mixed, scale = 2 * a[3] * b[3] * CURVE, 2 * a[2] * b[2]
    e, f, g, h = over - down, scale - mixed, scale + mixed, over + down
    return e * f % PRIME, g * h % PRIME, f * g % PRIME, e * h % PRIME


def times(number, point):
    result = (0, 1, 1, 0)
    while number:
        if number & 1:
            result = plus(result, point)
        point, number = plus(point, point), number >> 1
    return result


BASE = point_of((4 * pow(5, PRIME - 2, PRIME) % PRIME).to_bytes(32, "little"))


def is_signed(public, message, signature):
    """Say whether a signature of 64 bytes is that of the key over the message."""
    if len(public) != 32 or len(signature) != 64:
        return False
    scalar = int.from_bytes(signature[32:], "little")
    try:
        key, commitment = point_of(public), point_of(signature[:32])
    except ValueError:
        return False
    if scalar >= ORDER:
        return False
    challenge = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % ORDER
    left, right = times(scalar, BASE), plus(commitment, times(challenge, key))
    return not ((left[0] * right[2] - right[0] * left[2]) % PRIME or (left[1] * right[2] - right[1] * left[2]) % PRIME)


def check_signature(signed, keys):
    """Return the public key, in hexadecimal, that signed a root. Raises Difference if none did."""
    try:
        public = base64.b64decode(keys[signed["key"]], validate=True)
        signature = base64.b64decode(signed["signature"], validate=True)
    except (KeyError, TypeError, binascii.Error):
        raise Difference("signatures.json", f"the signature of {signed.get('root')} cannot be read") from None
    exact = base64.b64encode(public).decode(), base64.b64encode(signature).decode()
    if hashlib.sha256(public).hexdigest()[:16] != signed["key"] or exact != (keys[signed["key"]], signed["signature"]):
        raise Difference("signatures.json", f"the key {signed['key']} is not what its name says")
    if not is_signed(public, PURPOSE + signed["root"].encode(), signature):
        raise Difference("signatures.json", f"the signature of {signed['root']} is not that of the key {signed['key']}")
    return public.hex()


# ── The ZIP ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def check_names(archive):
    names = archive.namelist()
    if names != [*ENTRIES, SEAL]:
        odd = sorted(set(names) ^ {*ENTRIES, SEAL}) or ["their order"]
        raise Difference("the ZIP", f"it must hold the files of a receipt and nothing else; see {', '.join(odd)}")


def check_bytes(path, archive):
    """See that the ZIP is, byte for byte, what was made: the seal stands for all before it, the rest is fixed."""
    seal, entries = load(archive.read(SEAL), SEAL), archive.infolist()
    digest, ends = hashlib.sha256(), entries[-1].header_offset
    with open(path, "rb") as file:  # noqa: PTH123
        left = ends
        while left and (block := file.read(min(BLOCK, left))):
            digest.update(block)
            left -= len(block)
        tail, at = file.read(), 0
        same(SEAL, "the bytes before it", {"bytes": ends, "sha256": digest.hexdigest()}, seal)
        for info in entries:
            header = local_header(info)
            file.seek(info.header_offset)
            if info.header_offset != at or file.read(len(header)) != header:
                raise Difference("the ZIP", f"the entry {info.filename} is not as it was made")
            at += len(header) + info.compress_size
    # The directory of a very large ZIP has another form; what it says was held against the entries above.
    if at < 2**31 and tail != local_header(entries[-1]) + archive.read(SEAL) + directory(entries, at):
        raise Difference("the ZIP", "its directory is not as it was made")


def method_of(info):
    return 0 if info.filename == SEAL else 8


def local_header(info):
    """Return what stands before the content of an entry."""
    name = info.filename.encode()
    fixed = (45, 0, method_of(info), 0, 33, info.CRC, 2**32 - 1, 2**32 - 1, len(name), 20)
    sizes = struct.pack("<HHQQ", 1, 16, info.file_size, info.compress_size)
    return struct.pack("<4s5H3I2H", b"PK\3\4", *fixed) + name + sizes


def directory(entries, at):
    """Return the directory of a ZIP, which begins at `at`, as it must be."""
    listed = b""
    for info in entries:
        name = info.filename.encode()
        sizes = (info.CRC, info.compress_size, info.file_size)
        rest = (len(name), 0, 0, 0, 0, 0o644 << 16, info.header_offset)
        listed += struct.pack("<4s4B4H3I5H2I", b"PK\1\2", 45, 3, 45, 0, 0, method_of(info), 0, 33, *sizes, *rest) + name
    count = len(entries)
    return listed + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(listed), at, 0)


# ── What is said ──────────────────────────────────────────────────────────────────────────────────────────────────────


def money(micros, currency):
    sign, micros = ("-" if micros < 0 else ""), abs(micros)
    return f"{sign}{micros // 10**6:,}.{micros % 10**6:06} {currency}"


def check_given(root, keys, asked):
    """Hold root and key against those that the reader has from elsewhere."""
    if asked.root and asked.root.lower() != root:
        raise Difference("the usage root", f"it is {root}, not the {asked.root} that you gave")
    if asked.key and {asked.key.lower()} != set(keys):
        raise Difference("the key", f"it is {', '.join(sorted(keys))}, not the {asked.key} that you gave")


def what_it_rests_on(root, keys, asked):
    yield f"usage root {root}" + (", as you gave it" if asked.root else "")
    for key in sorted(keys):
        yield f"signed by  {key}" + (", as you gave it" if asked.key else "")
    if not asked.root:
        yield "Compare the usage root with the one at the foot of the invoice, or give it with --root:"
        yield "  that shows that the usage is what stood there before the invoice was final."
    if not asked.key:
        yield "Compare the key with those that the vendor publishes, or give it with --key:"
        yield "  that shows that the vendor signed this, and nobody else."


def made_out_to(receipt):
    """Say whom the invoice is made out to, and its tax by rate: as the document has them."""
    customer, currency = receipt.amounts["customer"], receipt.usage["currency"]
    ids = [value for _, value in customer["tax_ids"]]
    address = [customer["address"].get(part) for part in ADDRESS]
    yield "made out to: " + ", ".join(filter(None, [customer["name"], *address, *ids]))
    if customer["purchase_order"]:
        yield f"purchase order: {customer['purchase_order']}"
    for tax in receipt.amounts["taxes"]:
        if tax["tax_minor"]:
            net, owed = (money(tax[name] * receipt.per_minor, currency) for name in ("net_minor", "tax_minor"))
            yield f"tax: {owed}, {tax['name']} at {tax['percent']} % on {net}"
            if not is_about(tax, receipt.files["lines.jsonl"].number):
                yield "NOTE: that is not this part of it: some of it may be exempt, or the tax no percentage; ask why"


def is_about(tax, lines):
    """Say whether a tax is its percentage of its net, but for the rounding of each line by each of some rates."""
    whole, _, part = tax["percent"].partition(".")
    scale = 10 ** len(part)
    off = tax["net_minor"] * int(whole + part) - tax["tax_minor"] * 100 * scale
    return abs(off) <= 100 * scale * 2 * lines


def owed_again(receipt):
    """Say what is billed of earlier payments that went back, and by which of Stripe's documents that can be seen."""
    currency = receipt.usage["currency"]
    if receipt.debt_lines and receipt.debts is None:
        debt = money(sum(minor for minor, _, _ in receipt.debt_lines) * receipt.per_minor, currency)
        yield f"NOTE: {debt} is owed again: payments of earlier invoices, named on its lines, went back"
    for debt in receipt.debts or ():
        parts = ", ".join(f"{what.replace('_', ' ')} {name}" for what, name, _ in debt["went_back"])
        amount = money(debt["amount_minor"] * receipt.per_minor, currency)
        yield f"NOTE: {amount} is owed again of invoice {debt['number']}, whose payment went back: {parts or 'undone'}"


def verify_file(path, asked):
    """Verify a receipt and yield what can be said of it."""
    with zipfile.ZipFile(path) as archive:
        check_names(archive)
        receipt = Receipt(archive)
        receipt.verify()
        check_bytes(path, archive)
    root, currency, amounts = receipt.signatures["usage"]["root"], receipt.usage["currency"], receipt.amounts
    check_given(root, receipt.keys, asked)
    yield f"verified: invoice {amounts['number'] or amounts['invoice']}, usage of {receipt.usage['month'][:7]}"
    calls = receipt.files["calls.jsonl"].number
    late = f" ({receipt.late:,} of them late)" if receipt.late else ""
    gross = money(sum(receipt.gross.values()), currency)
    yield f"{calls:,} calls{late} and {receipt.outcomes:,} outcomes priced anew: {gross}"
    discounted = sum(receipt.discounted.values())
    yield f"paid by credit: {money(sum(receipt.burnt.values()) - discounted, currency)}"
    if discounted:
        yield f"taken off by discounts: {money(discounted, currency)}"
    total, tax = (amounts[name] * receipt.per_minor for name in ("total_minor", "tax_minor"))
    yield f"total: {money(total, currency)}, of which tax {money(tax, currency)}"
    if receipt.invoice["format"] >= WITH_PARTY:
        yield from made_out_to(receipt)
    if receipt.other_minor:
        yield f"NOTE: {money(receipt.other_minor * receipt.per_minor, currency)} stands on lines that are not of usage"
    yield from owed_again(receipt)
    if receipt.payments:
        yield f"last known: {receipt.payments[-1]['state']}, {receipt.payments[-1]['recorded_at']}"
    yield from what_it_rests_on(root, receipt.keys, asked)


def verify_call(path, asked):
    """Verify the proof of one call and yield what can be said of it."""
    with open(path, "rb") as file:  # noqa: PTH123
        proof = load(file.read(), "the proof")
    call, usage = load(proof["call"].encode(), "the call"), load(proof["usage"].encode(), "the usage head")
    name = base64.urlsafe_b64encode(leaf_hash(proof["prices"].encode())).decode().rstrip("=")
    same("the call", "the prices that it names", name, call["prices"])
    prices = Prices(load(proof["prices"].encode(), "the prices"), "the prices")
    price = prices.lines(call["duration_ms"], call["llm_tokens"], call["llm_requests"])
    charged = price
    if "revision" in call:
        same("the call", "its price", price, call["price"])
        charged, back = what_changed(prices.components, price, call["before"])
        same("the call", "what it gives back", back, call["given_back"])
    same("the call", "its lines", charged, call["lines"])
    same("the call", "its sum", sum(charged), call["micros"])
    lines, signed_root = usage["files"]["calls.jsonl"]
    same("the call", "the root of all calls", root_by_path(proof, lines), signed_root)
    root = head_root(proof["usage"].encode())
    same("the usage head", "its root", root, proof["signature"]["root"])
    public = check_signature(proof["signature"], proof["keys"])
    check_given(root, {public}, asked)
    revision = f", revision {call['revision']}" if "revision" in call else ""
    yield f"verified: call {call['call_id']}{revision} is one of {lines:,} of {usage['month'][:7]}"
    seconds = f"{call['duration_ms'] // 1000:,}.{call['duration_ms'] % 1000:03} s"
    yield f"{call['started_at']}, {seconds}, charged {money(call['micros'], usage['currency'])}"
    for component, micros in zip(prices.components, charged):  # noqa: B905
        yield f"  {component}: {money(micros, usage['currency'])}"
    yield from what_it_rests_on(root, {public}, asked)


def root_by_path(proof, lines):
    """Return the root that a call's place and its neighbours' hashes lead to."""
    place, above = proof["place"], base64.b64decode(proof["path"], validate=True)
    neighbours = [above[i : i + 32] for i in range(0, len(above), 32)]
    if not 0 <= place < lines:
        raise Difference("the call", "its place is not among the calls")
    found, last = leaf_hash(proof["call"].encode()), lines - 1
    while last:
        if place & 1:
            found = hashlib.sha256(b"\1" + neighbours.pop(0) + found).digest()
        elif place < last:
            found = hashlib.sha256(b"\1" + found + neighbours.pop(0)).digest()
        place, last = place >> 1, last >> 1
    if neighbours:
        raise Difference("the call", "its path is too long")
    return found.hex()


def main(arguments=None):
    """Verify what the command line names; return 0 if all is well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("receipt", nargs="?", help="the ZIP of a receipt")
    parser.add_argument("--call", metavar="PROOF", help="verify the proof of a single call instead")
    parser.add_argument("--root", help="the usage root, as it stands at the foot of the invoice")
    parser.add_argument("--key", help="the vendor's public key in hexadecimal, as it is published")
    asked = parser.parse_args(arguments)
    if bool(asked.receipt) == bool(asked.call):
        parser.error("name a receipt, or a proof with --call")
    try:
        said = list(verify_call(asked.call, asked) if asked.call else verify_file(asked.receipt, asked))
    except Difference as difference:
        print(f"NOT VERIFIED\n{difference}")
    except (OSError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        print(f"NOT VERIFIED\nthe file cannot be read, it may be damaged: {error}")
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        print(f"NOT VERIFIED\nthe file is not a receipt, or a part of it is missing: {error!r}")
    else:
        print("\n".join(said))
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
