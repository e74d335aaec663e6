"""Writes contacts.csv: 10,000 rows as people export them, with all usual faults.

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
    "America/New_York": (
        "201 202 203 207 212 215 216 219 220 223 227 229 231 234 239 240 248 252 260 267 269 270 272 "
        "276 283 301 302 304 305 313 315 317 321 324 326 329 330 332 336 339 347 351 352 363 364 380 "
        "386 401 404 407 410 412 413 419 434 440 443 445 448 463 470 472 475 478 484 502 508 513 516 "
        "517 518 540 551 561 567 570 571 574 582 585 586 603 606 607 609 610 614 616 617 631 640 645 "
        "646 656 667 678 680 681 686 703 704 706 716 717 718 724 727 728 732 734 740 743 754 757 762 "
        "765 770 771 772 774 781 786 802 803 804 810 812 813 814 821 826 828 835 838 839 843 845 848 "
        "850 854 856 857 859 860 862 863 864 865 878 904 906 908 910 912 914 917 919 929 930 934 937 "
        "941 943 947 948 954 959 973 978 980 984 989"
    ).split(),
    "America/Chicago": (
        "205 210 214 217 218 224 225 228 235 251 254 256 262 274 281 308 309 312 314 316 318 319 320 "
        "325 327 331 334 337 346 353 361 402 405 409 414 417 423 430 432 447 464 469 479 501 504 507 "
        "512 515 531 534 539 557 563 572 573 580 601 608 612 615 618 620 629 630 636 641 651 659 660 "
        "662 682 689 708 712 713 715 726 730 731 737 763 769 773 779 785 806 815 816 817 830 832 847 "
        "870 872 901 903 913 918 920 931 936 938 940 945 952 956 972 975 979 985"
    ).split(),
    "America/Denver": (
        "303 307 385 406 435 505 575 719 720 748 801 915 970 983"
    ).split(),
    "America/Los_Angeles": (
        "206 209 213 253 279 310 323 341 350 360 369 408 415 424 425 442 458 503 509 510 530 541 559 "
        "562 564 619 626 628 650 657 661 669 702 707 714 725 738 747 760 805 818 820 831 840 858 909 "
        "916 925 949 951 971"
    ).split(),
}
UK_PREFIXES = ["2079460", "1134960", "1144960", "1164960", "1174960", "1214960", "1314960", "1414960"]
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


def row(rng, seen):
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
    first, last = rng.choice(FIRST), rng.choice(LAST)
    name = f"{last}, {first}" if rng.random() < 0.2 else f"{first} {last}"
    if rng.random() < 0.05:
        name = f'{name} "{rng.choice(["Bo", "JJ", "Doc"])}"'
    priority = rng.choices(["", "5", "9"], [90, 8, 2])[0]
    company = rng.choice(["", "", "Acme, Inc.", "Müller & Söhne", 'The "Best" Co', "Zażółć Sp. z o.o."])
    notes = rng.choice(["", "", "", "call\nafter lunch", "VIP", " ", "prefers texts; speaks French"])
    return [name, f" {phone}" if rng.random() < 0.1 else phone, zone, priority, company, notes]


def main():
    rng = random.Random(20261123)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(["Full Name", "Phone Number", "Time Zone", "Priority", "Company", "Notes"])
    seen = []
    for _ in range(ROWS):
        if rng.random() < 0.002:
            # Lines that are no contacts. They count as rows. Except: the blank line.
            out.write(rng.choice(["\r\n", ",,,,,\r\n", "just some words\r\n", "a,b\r\n"]))
        writer.writerow(row(rng, seen))
    sys.stdout.reconfigure(encoding="utf-8", newline="")
    # Spreadsheets put a byte order mark first.
    sys.stdout.write("\ufeff" + out.getvalue())


if __name__ == "__main__":
    main()
