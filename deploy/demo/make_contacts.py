"""Writes contacts.csv: 10,000 rows as people export them, with all their blemishes.

Every number lies in a range that its country's regulator set aside for fiction (NANPA 555-0100 to
0199; Ofcom's 01632 960, 020 7946 0 and others; BNetzA's 030 23125 and others; ACMA's 5550 and 7010;
ARCEP's 01 99 00 and others), so that nobody is ever called by mistake.

    python3 make_contacts.py > contacts.csv
"""

import csv
import io
import random
import sys

ROWS = 10_000
FIRST = "Ada Björn Chloé Dana Emeka Fatima Grete Hiro Inês José Kofi Lars Mei Noor Olga Pía Quinn Ravi".split()
LAST = "O'Neil Müller Nguyễn Smith García Rossi Kowalski Haddad Tanaka Okafor Silva Dubois Lee".split()
US_AREAS = {
    "America/New_York": [201, 202, 203, 212, 215, 301, 305, 315, 401, 404, 407, 410, 412, 508, 516, 607],
    "America/Chicago": [205, 214, 217, 218, 225, 262, 281, 312, 314, 316, 402, 405, 414, 417, 469],
    "America/Denver": [303, 307, 385, 406, 435, 505, 575, 719, 720, 801],
    "America/Los_Angeles": [206, 209, 213, 253, 310, 323, 360, 408, 415, 425, 503, 510, 530, 541, 559, 619],
}
UK_PREFIXES = ["2079460", "1134960", "1144960", "1154960", "1164960", "1174960", "1214960", "1314960", "1414960"]
DE_PREFIXES = ["3023125", "6990009", "4066969", "2214710", "8999998"]
AU_PREFIXES = ["25550", "27010", "35550", "37010", "75550", "77010", "85550", "87010"]
FR_PREFIXES = ["19900", "26191", "35301", "46571", "53649"]


def american(rng):
    zone = rng.choice(list(US_AREAS))
    area, line = rng.choice(US_AREAS[zone]), rng.randrange(100, 200)
    forms = ["({a}) 555-0{l}", "{a}-555-0{l}", "{a}.555.0{l}", "+1 {a} 555 0{l}", "1{a}5550{l}", "+1{a}5550{l}"]
    return rng.choice(forms).format(a=area, l=line), zone


def british(rng):
    number = f"{rng.choice(UK_PREFIXES)}{rng.randrange(1000):03}"
    forms = ["+44 {n}", "+44 (0){n}", "0044{n}", "+44-{n}"]
    return rng.choice(forms).format(n=number).replace("0044", "+44"), "Europe/London"


def german(rng):
    number = f"{rng.choice(DE_PREFIXES)}{rng.randrange(1000):03}"
    return rng.choice(["+49 {n}", "+49 (0) {n}", "+49/{n}"]).format(n=number), "Europe/Berlin"


def australian(rng):
    number = f"{rng.choice(AU_PREFIXES)}{rng.randrange(10000):04}"
    return f"+61 {number[0]} {number[1:5]} {number[5:]}", "Australia/Sydney"


def french(rng):
    number = f"{rng.choice(FR_PREFIXES)}{rng.randrange(10000):04}"
    return "+33 " + number[0] + " " + " ".join(number[i:i + 2] for i in range(1, 9, 2)), "Europe/Paris"


def bad_phone(rng):
    return rng.choice(["", "n/a", "see notes", "555-0100", "+1 415 555", "0000000000", "+44 20 7946", "12", "#REF!"])


def main():
    rng = random.Random(20261123)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(["Full Name", "Phone Number", "Time Zone", "Priority", "Company", "Notes"])
    seen = []
    while True:
        phone, zone = rng.choices([american, british, german, australian, french], [55, 15, 12, 10, 8])[0](rng)
        chance = rng.random()
        if chance < 0.03 and seen:
            phone, zone = rng.choice(seen)
            phone = phone.replace(" ", rng.choice(["", "  ", " "]))
        elif chance < 0.045:
            phone = bad_phone(rng)
        else:
            seen.append((phone, zone))
        if rng.random() < 0.4:
            zone = ""
        elif rng.random() < 0.005:
            zone = rng.choice(["EST5", "Berlin", "UTC+2", "Pacific Time"])
        name = f"{rng.choice(FIRST)} {rng.choice(LAST)}"
        if rng.random() < 0.2:
            name = f"{name.split()[1]}, {name.split()[0]}"
        if rng.random() < 0.05:
            name = f'{name} "{rng.choice(["Bo", "JJ", "Doc"])}"'
        priority = rng.choices(["", "5", "9"], [90, 8, 2])[0]
        company = rng.choice(["", "", "Acme, Inc.", "Müller & Söhne", 'The "Best" Co', "Zażółć Sp. z o.o."])
        notes = rng.choice(["", "", "", "call\nafter lunch", "VIP", " ", "prefers texts; speaks French"])
        line = out.getvalue().count("\r\n") if rng.random() < 0.002 else None
        if line is not None:
            out.write(rng.choice(["\r\n", ",,,,,\r\n", "just some words\r\n", "a,b\r\n"]))
            ROW_COUNT[0] += 1
        writer.writerow([name, f" {phone}" if rng.random() < 0.1 else phone, zone, priority, company, notes])
        ROW_COUNT[0] += 1
        if ROW_COUNT[0] >= ROWS:
            break
    sys.stdout.reconfigure(encoding="utf-8", newline="")
    # Spreadsheets put a byte order mark first.
    sys.stdout.write("\ufeff" + out.getvalue())


ROW_COUNT = [0]

if __name__ == "__main__":
    main()
