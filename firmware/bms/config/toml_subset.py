"""Reader of pack files: a subset of TOML.

`[table]`, `[[slave]]`, `key = "text"`, `key = 12`, `key = true` and comments; a quantity is a text
with its unit, as in `cell_max = "3.65 V"`. Allocates: it runs before the cycle starts.
"""

from bms.config import schema
from bms.config.errors import ConfigError
from bms.config.schema import show


def tables_of(lines):
    # long: one line of a file after the other, every refusal in its place
    """Read pack-file lines (any iterable of text). Raises ConfigError.

    Returns (given, many_of): given["table.key"] = (value, line) of the tables that occur once;
    many_of["slave"], ["link"], ["sensor"]: a list with a dict key -> (value, line) for each table
    in the file, its own line under the key "".
    """
    known = {}
    for row in schema.SETTINGS:
        known.setdefault(row[0], {})[row[1]] = row
    tables = {
        "slave": _rows(schema.SLAVE_KEYS),
        "link": _rows(schema.LINK_KEYS),
        "sensor": _rows(schema.SENSOR_KEYS),
    }
    given = {}
    many_of = {"slave": [], "link": [], "sensor": []}
    table = ""
    keys = None
    into = None
    number = 0
    for text in lines:
        number += 1
        if number == 1 and text.startswith("\ufeff"):
            text = text[1:]  # some editors put a byte order mark before the text
        text = _strip(text, number)
        if not text:
            continue
        if text[0] == "[":
            many = text.startswith("[[")
            closing = "]]" if many else "]"
            if not text.endswith(closing):
                raise ConfigError(number, "", "expected %s at the end of %s" % (closing, text))
            table = text[2:-2].strip(" \t") if many else text[1:-1].strip(" \t")
            if many and table in tables:
                keys = tables[table]
                into = {}
                into[""] = (number, number)
                many_of[table].append(into)
            elif not many and table in known:
                keys = known[table]
                into = given
            else:
                raise ConfigError(number, "", "unknown table " + text + _table_hint(table, many))
            continue
        if "=" not in text:
            raise ConfigError(number, "", "expected key = value, found: " + text)
        key, value = text.split("=", 1)
        key = key.strip(" \t")
        if keys is None or into is None:
            raise ConfigError(number, key, "stands before any [table]")
        if key not in keys:
            raise ConfigError(number, key, "unknown key in [%s]%s" % (table, _key_hint(key, keys)))
        name = table + "." + key if into is given else key
        if name in into:
            raise ConfigError(number, key, "given twice, first in line %d" % into[name][1])
        row = keys[key]
        given_value = _value(number, key, value.strip(" \t"), row[2], row[3], row[4])
        into[name] = (given_value, number)
    return given, many_of


def _rows(keys):
    # the same columns as schema.SETTINGS, so that one reader serves all tables
    return {row[0]: ("", row[0], row[1], row[2], row[3], row[4]) for row in keys}


def _strip(text, number):
    out = ""
    quoted = False
    for c in text.rstrip("\r\n"):
        if c == '"':
            quoted = not quoted
        elif c == "#" and not quoted:
            break
        if c < " " and c != "\t":
            raise ConfigError(number, "", "a control byte or broken UTF-8 in the line")
        out += c
    if quoted:
        raise ConfigError(number, "", "a quote is not closed")
    return out.strip(" \t")


def _table_hint(table, many):
    if table in ("slave", "link", "sensor") and not many:
        return ": write [[%s]]" % table
    tables = []
    for row in schema.SETTINGS:
        if row[0] not in tables:
            tables.append(row[0])
    return (
        "; known: "
        + " ".join(["[%s]" % name for name in tables])
        + " [[slave]] [[link]] [[sensor]]"
    )


def _key_hint(key, keys):
    for known in keys:
        unit = keys[known][2]
        if key.startswith(known) and key[len(known) :].startswith("_") and unit in schema.SUFFIX:
            return ': write %s = "... %s", the unit stands in the value' % (
                known,
                _shown_unit(unit),
            )
    best = None
    for known in keys:
        if known.replace("_", "") == key.replace("_", "").lower():
            best = known
    return ": did you mean %s?" % best if best else "; known: " + " ".join(sorted(keys))


def _shown_unit(unit):
    return "degC" if unit == "0.1 degC" else unit


def _value(line, key, text, unit, low, high):
    quoted = len(text) >= 2 and text[0] == '"' and text[-1] == '"'
    inner = text[1:-1] if quoted else text
    if unit == "text":
        if not quoted:
            raise ConfigError(line, key, 'expected a text in quotes, as "%s"' % inner)
        if not low <= len(inner) <= high or '"' in inner or "\\" in inner:
            raise ConfigError(line, key, "a text of %d to %d plain characters" % (low, high))
        return inner
    if unit == "bool":
        if text not in ("true", "false"):
            raise ConfigError(line, key, "expected true or false, found " + text)
        return 1 if text == "true" else 0
    if unit == "nodes":
        return _nodes(line, key, inner, low, high)
    if unit == "":
        if quoted:
            raise ConfigError(line, key, "a count: expected a number without quotes or unit")
        value = _number(line, key, text, 0)
    else:
        value = _quantity(line, key, inner if quoted else "", text, unit)
    if not low <= value <= high:
        raise ConfigError(
            line, key, "%s is out of range: %s to %s" % (text, show(low, unit), show(high, unit))
        )
    return value


def _quantity(line, key, inner, text, unit):
    parts = [word for word in inner.replace("\t", " ").split(" ") if word]
    if len(parts) != 2:
        raise ConfigError(
            line,
            key,
            'expected a number and its unit in quotes, as "%s", found %s'
            % (_example(unit), text or "nothing"),
        )
    inside, places = schema.UNITS.get(parts[1], ("", 0))
    if inside != unit:
        names = [name for name in schema.UNITS if schema.UNITS[name][0] == unit]
        names.sort()
        raise ConfigError(
            line, key, "wrong unit %s: this setting takes %s" % (parts[1], " or ".join(names))
        )
    return _number(line, key, parts[0], places)


def _example(unit):
    return {"mV": "3.65 V", "mA": "100 A", "ms": "500 ms", "0.1 degC": "55.0 degC"}.get(
        unit, "10 " + _shown_unit(unit)
    )


def _number(line, key, text, places):
    """A decimal number as an integer of 10**-places; refuses what would lose a digit."""
    digits = text[1:] if text[:1] in "+-" and text else text
    whole, dot, rest = digits.partition(".")
    plain = whole + rest
    if not whole or (dot and not rest) or not all("0" <= c <= "9" for c in plain):
        raise ConfigError(line, key, "not a number: " + (text or "nothing"))
    rest = rest.rstrip("0")
    if len(rest) > places or len(whole) > 9:
        raise ConfigError(line, key, "%s has more digits than this setting holds" % text)
    value = int(whole + rest + "0" * (places - len(rest)))
    return -value if text[0] == "-" else value


def _nodes(line, key, text, low, high):
    first, dash, last = text.partition("-")
    a = _number(line, key, first.strip(" \t"), 0)
    b = _number(line, key, last.strip(" \t"), 0) if dash else a
    if not low <= a <= b <= high:
        raise ConfigError(line, key, "%s is out of range: %d to %d" % (text, low, high))
    return range(a, b + 1)
