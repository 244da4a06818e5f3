"""Writes features.json: small templates, and what Python's Jinja2 makes of them, set up as transformers does it.

    pip install jinja2==3.1.6 && python features.py
"""

import json
from pathlib import Path

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

VARIABLES = {
    "s": "Hello World",
    "blank": " \n\tx y \u00a0",
    "code": "\n    indented\n  less\n",
    "emoji": "a😀b",
    "quote": "it's \"so\"",
    "i": 7,
    "neg": -7,
    "f": 2.5,
    "big": 1234567.891,
    "yes": True,
    "no": False,
    "nothing": None,
    "l": [3, 1, 2],
    "words": ["b", "A", "c", "a"],
    "empty": [],
    "d": {"b": 2, "a": 1, "items": "own", "n": None},
    "people": [{"name": "Bo", "age": 3, "tags": ["x"]}, {"name": "al", "age": 1, "tags": []}, {"name": "Cy"}],
    "schema": {"type": "object", "properties": {"q": {"type": ["string", "null"]}}, "required": ["q"]},
    "nested": {"a": [{"b": "deep"}]},
}

TEMPLATES = r"""
{{ nothing }}|{{ yes }}|{{ no }}|{{ missing }}|{{ f }}|{{ i }}
{{ [nothing, 1] | first }}|{{ [1, nothing] | last }}|{{ d.get("n", 5) }}|{% for x in [nothing, 1] %}{{ loop.previtem }}{{ loop.nextitem }}{% endfor %}
{{ l }}|{{ d }}|{{ words }}|{{ quote }}|{{ [quote, nothing, 1.0, true] }}
{{ (1, "a") }}|{{ (1,) }}|{{ () }}|{{ ("a", "b",) | length }}
{{ {"a": {"b": [1, 2.5]}} }}|{{ {1: "one", "x": 2} }}
{{ {1: "one"}[1] }}|{{ {512: "a", 1024: "b"}.items() | list }}
{{ dict(a=1, b="x") }}|{{ dict([["k", 1]]) }}|{{ dict(d, a=5).a }}
{{ 1.0 }}|{{ 0.1 }}|{{ 0.1 + 0.2 }}|{{ 1 / 2 }}|{{ 4 / 2 }}|{{ 10.0 ** 20 }}|{{ 1 / 3 }}
{{ 0.00001 }}|{{ 123456789012345680.0 }}|{{ 1.5 * 2 }}
{{ 7 // 2 }}|{{ -7 // 2 }}|{{ 7 % 3 }}|{{ -7 % 3 }}|{{ 7.5 % 2 }}|{{ 7 % -3 }}|{{ -7.5 // 2 }}
{{ 2 ** 10 }}|{{ 2 ** -1 }}|{{ 2 ** 0.5 }}|{{ true + 1 }}|{{ -yes }}|{{ +i }}|{{ - - i }}
{{ "a" * 3 }}|{{ [1, 2] * 2 }}|{{ 2 * "ab" }}|{{ (1,) * 2 }}|{{ "x" * -1 }}
{{ 1 ~ "a" ~ none ~ true ~ 1.0 ~ [1] }}
{{ "a" + 1 }}
{{ nothing + "a" }}
{{ missing + "a" }}
{{ 1 / 0 }}
{{ 1 % 0 }}
{{ "a" < "b" }}|{{ 1 < 2 < 3 }}|{{ 3 > 2 > 2 }}|{{ 1 < 2 == true }}|{{ (1 < 2) == true }}|{{ [1, 2] < [1, 3] }}
{{ 1 < "a" }}
{{ none < 1 }}
{{ 1 == 1.0 }}|{{ true == 1 }}|{{ "1" == 1 }}|{{ none == false }}|{{ [1] == [1.0] }}|{{ {"a": 1} == {"a": 1} }}|{{ missing == missing }}|{{ missing == none }}|{{ (1,) == [1] }}
{{ 1 in l }}|{{ "ell" in s }}|{{ "a" in d }}|{{ 9 not in l }}|{{ 1 in missing }}|{{ [1] in [[1]] }}|{{ 1.0 in l }}|{{ "q" in schema.required }}
{{ 1 in 5 }}
{{ 1 in s }}
{{ none in s }}
{{ s[0] }}|{{ s[-1] }}|{{ s[1:4] }}|{{ s[::-1] }}|{{ s[::2] }}|{{ s[-3:] }}|{{ s[:-3] }}|{{ s[5:1:-1] }}|{{ s[100:] }}|{{ s[99] }}
{{ emoji | length }}|{{ emoji[1] }}|{{ emoji[::-1] }}|{{ emoji[1:] }}|{{ emoji | list }}|{{ emoji.find("b") }}|{{ emoji.center(7, "*") }}
{{ l[1:] }}|{{ l[::-1] }}|{{ l[-2:][0] }}|{{ l[5] }}|{{ (1, 2, 3)[1:] }}|{{ l[yes] }}
{{ d.items is defined }}|{{ d.items is callable }}
{{ d["items"] }}|{{ d.a }}|{{ d["a"] }}|{{ d.zz }}|{{ d["zz"] is defined }}|{{ d.get("a") }}|{{ d.get("zz") }}|{{ d.get("zz", 5) }}
{{ d.items() | list }}|{{ d.keys() | list }}|{{ d.values() | list }}|{{ d | items | list }}|{{ d | length }}
{{ d[[1]] is defined }}|{{ d[{}] is defined }}|{{ d[(1, 2)] is defined }}
{{ [1] in d }}
{{ d.get([1]) }}
{{ d.zz.y }}
{{ missing.x }}
{{ missing["x"] }}
{{ nothing.x is defined }}|{{ nothing["x"] is defined }}|{{ i.x is defined }}|{{ s.foo is defined }}
{{ missing() }}
{{ s() }}
{{ d.update({"a": 2}) }}
{{ l.append(4) }}
{{ s.__class__ }}
{{ {"remove": 1, "sort": 2, "append": 3}.remove }}|{{ {"sort": 2}.sort }}|{{ {"pop": 2}["pop"] }}
{{ {"pop": 2}.pop() }}
{{ nested.a[0].b }}|{{ nested["a"][0]["b"] }}|{{ nested.a.0.b }}|{{ l.0 }}
{{ none | selectattr("x") | list }}|{{ missing | selectattr("x") | list }}|{{ none | map("upper") | list }}|{{ none | reject("none") | list }}
{{ missing | trim }}|{{ missing | upper }}|{{ missing | list }}|{{ missing | length }}|{{ missing | join(",") }}|{{ missing | first }}|{{ missing | items | list }}|{{ missing | string }}|{{ missing | replace("a", "b") }}
{{ none | trim }}|{{ none | upper }}|{{ none | string }}|{{ none | replace("o", "0") }}|{{ none | title }}
{{ none | length }}
{{ none | list }}
{{ none | join(",") }}
{{ none | first }}
{{ none | sort }}
{{ none | tojson }}|{{ true | tojson }}|{{ 1.0 | tojson }}|{{ "é😀" | tojson }}|{{ quote | tojson }}
{{ missing | tojson }}
{{ missing | int }}
{{ none | int }}|{{ none | float }}|{{ none | default("x") }}|{{ none | default("x", true) }}|{{ missing | default("x") }}|{{ missing | d }}|{{ "" | d("y", boolean=true) }}
{{ s.strip("Hd") }}|{{ s.lstrip("He") }}|{{ s.rstrip("dl") }}|{{ s | trim("Hd") }}|{{ code.lstrip("\n") }}|{{ code.strip("\n") }}|{{ code.rstrip() }}|{{ code.strip(none) }}
[{{ blank.strip() }}]|[{{ blank | trim }}]|[{{ blank.lstrip() }}]|[{{ blank.rstrip(" ") }}]|[{{ blank.split() }}]
{{ "a,b,,c".split(",") }}|{{ "a,b,,c".split(",", 1) }}|{{ "a,b,c".rsplit(",", 1) }}|{{ " a  b  c ".split() }}|{{ " a  b  c ".split(none, 1) }}|{{ " a  b  c ".rsplit(none, 1) }}|{{ "abc".split("x") }}|{{ "".split(",") }}|{{ "".split() }}|{{ "aXbXc".split("X", maxsplit=1) }}|{{ "a-b".split("-")[-1] }}
{{ "a".split("") }}
{{ "a\nb\r\nc\n".splitlines() }}|{{ "a\nb".splitlines(true) }}|{{ "a=b=c".partition("=") }}|{{ "a=b=c".rpartition("=") }}|{{ "abc".partition("x") }}
{{ s.startswith("He") }}|{{ s.endswith(("x", "ld")) }}|{{ s.startswith(("x", "y")) }}|{{ s.find("o") }}|{{ s.rfind("o") }}|{{ s.find("zz") }}|{{ s.count("l") }}|{{ s.index("W") }}|{{ s.startswith("W", 6) }}|{{ s.find("o", 5) }}
{{ s.index("zz") }}
{{ s.upper() }}|{{ s.lower() }}|{{ s.title() }}|{{ s.capitalize() }}|{{ s.swapcase() }}|{{ "they're bill's".title() }}|{{ "they're bill's" | title }}|{{ "hELLO wORLD" | capitalize }}|{{ "foo-bar (baz)" | title }}
{{ s.replace("l", "L") }}|{{ s.replace("l", "L", 1) }}|{{ s | replace("o", "0") }}|{{ s | replace("l", "L", 2) }}|{{ "aaa".replace("", "-") }}|{{ "ab".replace("b", "$&") }}|{{ "a.b.c".replace(".", "", 1) }}
{{ "x".join(["a", "b"]) }}|{{ ",".join(words) }}|{{ words | join(", ") }}|{{ l | join }}|{{ people | join("/", attribute="name") }}|{{ [none, 1, true] | join("-") }}|{{ d | join(",") }}|{{ "abc" | join("-") }}
{{ ",".join(l) }}
{{ "abc".isalpha() }}|{{ "12".isdigit() }}|{{ "a1".isalnum() }}|{{ " ".isspace() }}|{{ "".isalpha() }}|{{ "AB".isupper() }}|{{ "ab1".islower() }}|{{ "1".islower() }}|{{ "Ab Cd".istitle() }}|{{ "1.5".isdecimal() }}|{{ "½".isnumeric() }}
{{ "5".zfill(3) }}|{{ "-5".zfill(4) }}|{{ "a".center(4) }}|[{{ "ab".center(5, "*") }}]|[{{ "ab".center(6, "*") }}]|{{ "a".ljust(3, ".") }}|{{ "a".rjust(3) }}|[{{ "a" | center(5) }}]|{{ "prefix-x".removeprefix("prefix-") }}|{{ "x.py".removesuffix(".py") }}
{{ "%s and %d" | format("a", 5) }}|{{ "%s %r" % ("a", "b") }}|{{ "%05.2f|%-5s|%5s|%+d|%x|%%" % (3.14159, "ab", "cd", 5, 255) }}|{{ "%(a)s-%(b)02d" % {"a": "x", "b": 3} }}|{{ "%s" % "one" }}|{{ "%s" % 1.0 }}|{{ "%d" % 3.7 }}|{{ "%e %g" % (12345.678, 0.0001) }}|{{ "%(k)s" | format(k=1) }}|{{ "%s" % none }}|{{ "%c" % 65 }}|{{ "%*d" % (5, 42) }}|{{ "%.2s" % "abc" }}|{{ "%o %X %#x" % (8, 255, 255) }}|{{ "%s" % [1] }}
{{ "%s %s" % "a" }}
{{ "%s" % ("a", "b") }}
{{ "%d" % "x" }}
{{ "{} {}".format(1, "a") }}|{{ "{1} {0}".format("a", "b") }}|{{ "{a}-{b.name}".format(a=1, b=people[0]) }}|{{ "{:>5}|{:<5}|{:^5}|{:*^7}".format("a", "b", "c", "d") }}|{{ "{:.2f} {:05d} {:,} {:x} {:+} {:%}".format(3.14159, 42, 1234567, 255, 5, 0.25) }}|{{ "{{}} {0!r}".format("x") }}|{{ "{0[b]}".format(d) }}|{{ "{:{}}".format("a", 4) }}|{{ "{:10.3}|".format("abcdef") }}|{{ "{:g} {:e}".format(0.5, 1500.0) }}|{{ "{}".format(none) }}|{{ "{:_}".format(1234567) }}
{{ "{}".format() }}
{{ "{x}".format(y=1) }}
{{ "{:d}".format("a") }}
{{ l | min }}|{{ l | max }}|{{ l | sum }}|{{ words | min }}|{{ words | max }}|{{ people[:2] | min(attribute="age") }}|{{ people[:2] | sum(attribute="age") }}|{{ people[:2] | sum(attribute="age", start=10) }}|{{ [1.5, 2] | sum }}|{{ empty | sum }}|{{ empty | min }}|{{ words | min(case_sensitive=true) }}
{{ l | sort }}|{{ l | sort(reverse=true) }}|{{ words | sort }}|{{ words | sort(case_sensitive=true) }}|{{ people[:2] | sort(attribute="age") | map(attribute="name") | list }}|{{ d | dictsort }}|{{ {"b": 1, "A": 2} | dictsort }}|{{ {"b": 1, "a": 2} | dictsort(by="value", reverse=true) }}
{{ [1, "a"] | sort }}
{{ words | unique | list }}|{{ [1, 2, 1.0, true] | unique | list }}|{{ words | unique(case_sensitive=true) | list }}|{{ l | reverse | list }}|{{ s | reverse }}|{{ l | first }}|{{ l | last }}|{{ empty | first }}|{{ d | first }}|{{ s | first }}|{{ s | last }}
{{ people | map(attribute="name") | list }}|{{ people | map(attribute="age", default=0) | list }}|{{ words | map("upper") | join }}|{{ l | map("string") | list }}|{{ people[:2] | map(attribute="tags.0") | list | length }}|{{ words | map("replace", "a", "z") | list }}
{{ l | select("odd") | list }}|{{ l | reject("gt", 1) | list }}|{{ l | select("equalto", 2) | list }}|{{ [0, 1, none, ""] | select | list }}|{{ people | selectattr("age") | map(attribute="name") | list }}|{{ people | selectattr("age", "equalto", 1) | list }}|{{ people | rejectattr("age", "defined") | list }}|{{ people | selectattr("name", "in", ["Bo"]) | list }}|{{ l | select("in", [1]) | list }}|{{ l | select(">=", 2) | list }}|{{ people | selectattr("tags", "defined") | selectattr("tags") | list | length }}
{{ l | select("nosuch") | list }}
{{ 3.7 | int }}|{{ "42" | int }}|{{ "4.9" | int }}|{{ "x" | int }}|{{ "x" | int(5) }}|{{ "ff" | int(base=16) }}|{{ "0x1f" | int(0, 16) }}|{{ true | int }}|{{ -3.7 | int }}|{{ "1.5" | float }}|{{ "x" | float }}|{{ "x" | float(1.5) }}|{{ 3 | float }}|{{ " 12 " | int }}|{{ "1_000" | int }}
{{ 2.5 | round }}|{{ 3.5 | round }}|{{ 42.55 | round(1) }}|{{ 42 | round }}|{{ 42.1 | round(0, "ceil") }}|{{ 42.9 | round(method="floor") }}|{{ -2.5 | round }}|{{ 1234 | round(-2) }}|{{ 2.675 | round(2) }}|{{ 0.1 | round(3) }}
{{ -5 | abs }}|{{ -2.5 | abs }}|{{ i | string | length }}|{{ "a b  c" | wordcount }}|{{ s | length }}|{{ l | count }}
{{ "a\nb\n\nc" | indent }}|{{ "a\nb" | indent(2, true) }}|{{ "a\n\nb" | indent(2, blank=true) }}|{{ "a\nb" | indent("> ") }}|{{ "a\nb\n" | indent(1) }}|{{ "a\nb" | indent(width=2, first=true) }}
{{ "foo bar baz qux" | truncate(9) }}|{{ "foo bar baz qux" | truncate(9, true) }}|{{ "foo bar baz qux" | truncate(11) }}|{{ "foo bar baz qux" | truncate(11, false, "..", 0) }}
{{ "<a href='x'>&\"" | e }}|{{ "<b>" | escape }}|{{ "x" | safe }}|{{ people[0] | attr("name") is defined }}
{{ schema | tojson }}|{{ schema | tojson(indent=2) }}|{{ [] | tojson(indent=2) }}|{{ d | tojson(sort_keys=true) }}|{{ [1, {"a": none}] | tojson(separators=(",", ":")) }}|{{ "é" | tojson(ensure_ascii=true) }}|{{ "é" | tojson(true) }}|{{ {1: true, "z": (1, 2)} | tojson }}|{{ "a\u0001\x7f/<>&'" | tojson }}|{{ schema | tojson(indent=4) | length }}|{{ {"a": {}} | tojson(indent=1) }}
{{ i is odd }}|{{ i is even }}|{{ i is divisibleby(7) }}|{{ i is divisibleby 2 }}|{{ i is not divisibleby 2 }}|{{ i is eq 7 }}|{{ i is ne(7) }}|{{ i is gt 3 and i is lt 9 }}|{{ i is in l }}|{{ 3 is in(l) }}|{{ none is sameas none }}|{{ no is sameas false }}|{{ i is ge 7 }}|{{ i is le(6) }}|{{ "a" is in d }}|{{ i is equalto 7 or no }}
{{ f is float }}|{{ i is float }}|{{ i is integer }}|{{ yes is integer }}|{{ yes is number }}|{{ f is number }}|{{ s is string }}|{{ l is sequence }}|{{ d is mapping }}|{{ d is iterable }}|{{ s is iterable }}|{{ i is iterable }}|{{ yes is boolean }}|{{ none is none }}|{{ missing is defined }}|{{ missing is not defined }}|{{ missing is undefined }}|{{ yes is true }}|{{ 1 is true }}|{{ no is false }}|{{ "ab" is lower }}|{{ "AB" is upper }}|{{ range is callable }}|{{ (1, 2) is sequence }}|{{ s is mapping }}|{{ missing is none }}
{{ s is defined | string }}|{{ not s is defined }}|{{ s is string and s is not none }}|{{ "x" if s is string else "y" }}
{{ s is nosuch }}
{{ s | nosuch }}
{{ "yes" if no }}|{{ "yes" if no else "else" }}|{{ "a" if no else "b" if no else "c" }}|{{ (s if yes else d)[0] }}|{{ yes and "x" }}|{{ no or none or "z" }}|{{ not empty }}|{{ not not l }}|{{ "" or "default" }}
{% for x in l %}{{ loop.index }}:{{ x }}{{ "," if not loop.last }}{% endfor %}
{% for x in l %}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.cycle("a", "b") }}{{ loop.depth }}{% endfor %}
{% for x in [1, 1, 2] %}{{ loop.changed(x) }}{% endfor %}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}|{% for k in d %}{{ k }}{% endfor %}|{% for c in "ab" %}[{{ c }}]{% endfor %}|{% for x in missing %}x{% else %}none{% endfor %}|{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}
{% for x in l if x > 1 %}{{ x }}{{ loop.index }}{% else %}nothing{% endfor %}|{% for x in l if x > 9 %}{{ x }}{% else %}nothing{% endfor %}|{% for p in people if p.age is defined and p.age > 1 %}{{ p.name }}{% endfor %}
{% for x in range(10) %}{% if x == 2 %}{% continue %}{% endif %}{% if x > 4 %}{% break %}{% endif %}{{ x }}{% endfor %}|{% for x in range(3) %}{% for y in range(3) %}{% if y == 1 %}{% break %}{% endif %}{{ x }}{{ y }} {% endfor %}{% endfor %}
{% for x in none %}{% endfor %}
{% for x in 5 %}{% endfor %}
{% for a, b in [(1, 2, 3)] %}{% endfor %}
{% set x = 1 %}{% for y in l %}{% set x = x + y %}{{ x }},{% endfor %}{{ x }}
{% set ns = namespace(n=0, seen=[]) %}{% for y in l %}{% set ns.n = ns.n + y %}{% set ns.seen = ns.seen + [y] %}{% endfor %}{{ ns.n }}{{ ns.seen }}{{ ns.zz is defined }}
{% set d.x = 1 %}
{% if yes %}{% set z = 5 %}{% endif %}{{ z }}|{% for y in l %}{% if loop.first %}{% set q = 1 %}{% endif %}{{ q is defined }}{% endfor %}
{% set a, b = 1, 2 %}{{ a }}{{ b }}|{% set t = 1, 2 %}{{ t }}|{% set x %}block {{ i }}{% endset %}{{ x }}|{% set x | upper %}block{% endset %}{{ x }}|{% set x | replace("b", "c") | upper %}abc{% endset %}{{ x }}
{% macro m(a, b=2, c=a) %}{{ a }}-{{ b }}-{{ c }}{% endmacro %}{{ m(1) }}|{{ m(1, c=5) }}|{{ m(b=1, a=0) }}|{{ m() }}
{% macro m(a) %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, x=4) }}
{% macro outer() %}<{{ caller() }}>{% endmacro %}{% call outer() %}in{{ i }}{% endcall %}|{% macro each(xs) %}{% for x in xs %}{{ caller(x) }}{% endfor %}{% endmacro %}{% call(x) each(l) %}[{{ x }}]{% endcall %}
{% macro fact(n) %}{% if n > 1 %}{{ n * (fact(n - 1) | int) }}{% else %}1{% endif %}{% endmacro %}{{ fact(5) }}
{% set g = 1 %}{% macro m() %}{{ g }}{% endmacro %}{% set g = 2 %}{{ m() }}|{% for g in [9] %}{{ m() }}{% endfor %}
{% filter upper %}abc{{ i }}{% endfilter %}|{% filter replace("a", "b") %}aaa{% endfilter %}
{% with a = 1, b = i %}{{ a }}{{ b }}{% set c = 3 %}{% endwith %}{{ a is defined }}{{ c is defined }}|{% with %}{% set a = 4 %}{{ a }}{% endwith %}
{% raw %}{{ not }} {% if %}{% endraw %}|{% raw -%}  x {%- endraw %}|{{ "a" }}{% raw %}"q" \n{% endraw %}
{{ range(3) | list }}|{{ range(1, 6, 2) | list }}|{{ range(3, 0, -1) | list }}|{{ range(0) | list }}
{{ range(0, 1, 0) }}
{% set c = cycler("a", "b") %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}|{% set j = joiner("; ") %}{{ j() }}a{{ j() }}b{{ j() }}c
{{ raise_exception("my words") }}
{{ "a" "b" }}|{{ "tab\there" }}|{{ 'it\'s' }}|{{ "\u00e9" }}|{{ "back\\slash" }}
{#- comment -#} x {# another #} y {{- " z" -}} w
{% generation %}inside{% endgeneration %}|{%- generation -%} a {%- endgeneration -%} b
{{ [1, 2,] }}|{{ {"a": 1,} }}|{{ dict(a=1,) }}|{{ m is defined }}
{{ nothing is none and nothing is not defined }}|{{ d.n is none }}|{{ d.n is defined }}|{{ d.zz is none }}
{{ s|upper|lower|title }}|{{ (s ~ "!") | upper }}|{{ s.split(" ")[0] | upper }}|{{ -1 | abs }}|{{ 2 + 3 | string | length }}
{{ "x" ~ (1 + 1) }}|{{ 1 + 2 * 3 - 4 / 2 }}|{{ (1 + 2) * 3 }}|{{ 2 ** 3 ** 2 }}|{{ not 1 == 2 }}|{{ 1 if 2 > 1 and not 0 else 2 }}|{{ 10 - 2 - 3 }}
{{ d.keys() | sort | join(",") }}|{{ d | list | sort }}|{{ d.values() | select("number") | list }}|{{ people[0].keys() | list }}|{{ "name" in people[0].keys() }}
{{ [[1, 2], [3]] | sum(start=[]) }}|{{ [1, 2] + [3] }}|{{ (1,) + (2,) }}|{{ l | length > 2 }}|{{ l[:2] | length }}
{{ [1] + (2,) }}
{{ people | map(attribute="age") | select("defined") | list }}
{{ "%.1f%%" | format(12.345) }}|{{ "{:,.2f}".format(big) }}|{{ big | round(1) }}|{{ big | int }}
{% if "a" in ("a", "b") %}yes{% endif %}{% if ("a") == "a" %}yes{% endif %}{% if not ("x" in s) %}no{% endif %}{% if l and (d or empty) %}both{% endif %}
{% for m in [{"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "image"}]}] %}{% for p in m["content"] if p["type"] == "text" %}{{ p["text"] }}{% endfor %}{{ m.content is string }}{{ m["content"] is iterable }}{% endfor %}
{% for item in [{"n": 1, "c": [{"n": 2, "c": []}, {"n": 3, "c": [{"n": 4, "c": []}]}]}] recursive %}<{{ item.n }}:{{ loop.depth }}{{ loop.depth0 }}{{ loop.index }}{{ loop(item.c) }}>{% else %}.{% endfor %}
{% for x in [1, [2, [3, 4]], 5] if x != 5 recursive %}{{ loop(x) if x is iterable else x }},{% endfor %}|{% for a, b in {"k": {"l": 1}}.items() recursive %}{{ a }}({{ loop(b.items()) if b is mapping else b }}){% endfor %}
{% for x in [1] %}{{ loop([2]) }}{% endfor %}
{{ 1e3 }}|{{ 1.5e2 }}|{{ 1E-2 }}|{{ 2e+3 }}|{{ 1_000 }}|{{ 1_0e2 }}|{{ 0x1f }}|{{ 0b101 }}|{{ 0o17 }}|{{ 1e3 - 1 }}|{{ [1e1, 2][0] }}
{{ range(7) | batch(3) | list }}|{{ range(4) | batch(3, "x") | list }}|{{ [] | batch(2, "x") | list }}
{{ range(7) | slice(3) | list }}|{{ range(7) | slice(3, "x") | list }}|{{ range(2) | slice(4) | list }}
{% for g in [{"c": "b", "n": 1}, {"c": "a", "n": 2}, {"c": "B", "n": 3}] | groupby("c") %}{{ g.grouper }}{{ g.list | map(attribute="n") | list }}{% endfor %}|{% for k, list in people | groupby("age", default=0) %}{{ k }}:{{ list | length }} {% endfor %}|{% for k, v in ["b", "A", "a"] | groupby(0, case_sensitive=true) %}{{ k }}{{ v }}{% endfor %}
{{ "a b/ü&(x)~" | urlencode }}|{{ {"a b": "c/d", "e": 1} | urlencode }}|{{ [("k", "v w")] | urlencode }}
{{ 1 | filesizeformat }}|{{ 999 | filesizeformat }}|{{ 1000 | filesizeformat }}|{{ 123456789 | filesizeformat }}|{{ 1048576 | filesizeformat(true) }}|{{ 1e30 | filesizeformat }}
{{ "<b>&" | forceescape }}
"""

MULTILINE = [
    "{% if yes %}\n  a\n  {% if no %}\n  b\n  {% endif %}\n  c\n{% endif %}\nend\n",
    "x\n  {%- if yes %}\n   y\n  {%- endif %}\nz",
    "  {%+ if yes %}a{% endif %}\nb\n{% if yes +%}\nc{% endif %}",
    "a\r\n{% if yes %}\r\nb\r\n{% endif %}\r\nc",
    "{% raw %}\n  {{ x }}\n  {% endraw %}\nafter",
    "   {% raw %}  a{% endraw %}\n",
    "{# c #}\n  {# d #}\nx\n\n",
    "{%- for x in l -%}\n  {{ x }}\n{%- endfor -%}\n  !",
    "{% set x = [\n  1,\n  2\n] %}{{ x }}",
    "line\n    {{ s }}\n    {% set y = 1 %}\n\n    {{ y }}",
]


def environment():
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    class Generation(jinja2.ext.Extension):
        tags = {"generation"}

        def parse(self, parser):
            lineno = next(parser.stream).lineno
            body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
            return jinja2.nodes.CallBlock(self.call_method("_run"), [], [], body).set_lineno(lineno)

        def _run(self, caller):
            return caller()

    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    return env


def main():
    env = environment()
    cases = []
    for template in [line for line in TEMPLATES.strip().split("\n")] + MULTILINE:
        try:
            cases.append({"template": template, "text": env.from_string(template).render(**VARIABLES)})
        except Exception as error:
            cases.append({"template": template, "error": f"{type(error).__name__}: {error}"})
    made_by = f"Jinja2 {jinja2.__version__}, set up as transformers does it, by features.py"
    text = json.dumps({"made_by": made_by, "variables": VARIABLES, "cases": cases}, indent=1, ensure_ascii=False)
    Path(__file__).with_name("features.json").write_text(text + "\n")


main()
