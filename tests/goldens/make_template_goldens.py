#!/usr/bin/env python3
"""Records what jinja2 makes of templates under Hugging Face's settings.

    make_template_goldens.py SmolLM2-135M-Instruct.Q4_1.gguf

writes templates.json beside itself: an array of {name, template, variables, text | error}. Templates of the form that
models use are written out here; the real model's own comes from the file. Needs: gguf, jinja2.
"""
import datetime
import json
import pathlib
import sys
import traceback

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = datetime.datetime(2024, 11, 23, 2, 30, 58)


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_mark"), [], [], body).set_lineno(line)

    def _mark(self, caller):
        return caller()


def environment(now=NOW):
    """jinja2 with Hugging Face's settings; `now`: what strftime_now takes for the time, the clock's where None."""
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                        extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda format: (now or datetime.datetime.now()).strftime(format)
    return env


def line_of(error):
    """The template's line that an error names, or that was running."""
    line = getattr(error, "lineno", None)
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == "<template>":
            line = frame.lineno
    return line


DATA = {
    "name": "World", "empty": "", "text": "  Hello, \"wörld\" 你好 😀\n", "n": 7, "x": 2.5, "yes": True, "no": False, "nil": None,
    "list": [3, 1, 2], "words": ["pear", "Apple", "fig", "apple"], "nested": [[1, 2], [3, [4, 5]], []],
    "dict": {"b": 1, "a": [1, None, True], "C": {"d": "e\"'\n"}}, "floats": [0.1, 1e16, 1e-7, 100.0, -0.5, 1.5e300, 123456789012345.6],
    "users": [{"name": "Ann", "age": 30, "tags": ["x"]}, {"name": "bob", "age": 25}, {"name": "Cid", "age": None, "items": 1}],
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi <there> & 'you'"},
                 {"role": "assistant", "content": "Hello!\n"}, {"role": "user", "content": "Bye"}],
    "tools": [{"type": "function", "function": {"name": "get_weather", "description": "Weather in a \"city\"",
               "parameters": {"type": "object", "properties": {"city": {"type": "string", "enum": ["Zürich", "日本"]},
                              "days": {"type": ["integer", "null"], "default": 3}}, "required": ["city"]}}}],
    "html": "<a href='x'>&</a>", "lines": "one\n\n  two\r\nthree\x0b four\u2028five", "bos_token": "<s>",
}

# Snippets by feature; each is rendered over DATA.
SNIPPETS = {
    "white space": [
        "a\n{% if yes %}\nb\n{% endif %}\nc\n", "  {% if yes %}  x  {% endif %}  \n  y", "{%- if yes -%}  x  {%- endif -%}  z", "a \n {{- name -}} \n b",
        "  {#- c -#}  x", "  {# c #}\n  x", "a {# c #} b", "a{#\n\n#}\nb{{ nope }}\n\n", "x\n\n", "x\n", "\n\nx", "{{ name }}\n{{ name }}\n",
        "\t {%+ if yes %}x{% endif %}", "{% if yes +%}\nx{% endif %}", "{% if yes %}\r\nx\r\n{% endif %}\r\ny\r", "  {{ name }}  {% set a = 1 %}  {{ a }}",
        "{% raw %}{{ x }} {% if %}{% endraw %}\nz", "{%- raw -%}  {{ x }}  {%- endraw -%}  z", "  {% raw %}\n a \n  {% endraw %}\n b", "{{ '{{' }} {{ \"%}\" }} {{ '}}' }}",
        "{% for i in list %}\n  {{ i }}\n{% endfor %}", "{% for i in list -%}\n  {{ i }}\n{%- endfor %}", "    {% for i in list %}{{ i }}{% endfor %}\n    end",
        "a\n   \n\t{% set q = 1 %}\nb", "a\u3000{%- if yes %}x{% endif %}", "a\n\u00a0{% if yes %}x{% endif %}", "{{ {'a': {'b': 1}}['a']['b'] }}{{ {'a':1}}}",
        "{% if yes %}{% endif %} \n  {% if yes %}\n  q{% endif %}", "{{name}}   {% if yes %}x{% endif %}", "{# {{ }} {% %} #}x", "{#-\n-#}\n x", "a\n  {#+ c #}\nb",
    ],
    "literals": [
        "{{ 1 }} {{ 1_000 }} {{ 0x1F }} {{ 0b11 }} {{ 1.5 }} {{ 1e3 }} {{ 1.5E-3 }} {{ 12_3.4_5 }} {{ true }} {{ None }} {{ none }} {{ False }}",
        "{{ 'a' 'b' \"c\" }} {{ 'it\\'s' }} {{ '\\n\\t\\\\\\x41\\u00e9\\U0001F600\\101\\q' }}", "{{ [1, 'a', [], (), (1,), (1, 2,), {'k': none}, {}] }}",
        "{{ 'quo\\'te' ~ \"d\\\"q\" }} {{ ['quo\\'te', \"d\\\"q\", \"b'\\\"\", '\\n\\x00\\x7f\\u00a0é😀\\u200b'] }}", "{{ floats }}", "{{ (1) }} {{ (1,) }} {{ 1, 2 }}",
        "{{ dict }} {{ users }}", "{{ 3.0 }} {{ 1/3 }} {{ 2e22 }} {{ 1e15 }} {{ 12345678.9 }} {{ 0.00001 }} {{ 0.0001 }} {{ -0.0 }}",
    ],
    "arithmetic": [
        "{{ 1 + 2 * 3 - 4 }} {{ (1 + 2) * 3 }} {{ 7 / 2 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ 2 ** 3 ** 2 }}",
        "{{ -n }} {{ +n }} {{ - -n }} {{ -n ** 2 }} {{ 1.5 + 1 }} {{ 5.5 // 2 }} {{ -5.5 % 2 }} {{ yes + 1 }} {{ 'a' * 3 }} {{ 2 * [1] }} {{ (1,) + (2,) }} {{ [1] + [2] }}",
        "{{ 'a' + 'b' ~ 1 }}{{ 3 * 2 ~ 'x' ~ 8 // 3 }}", "{{ 1 ~ 2 ~ none ~ true ~ 1.0 ~ [1] ~ nope }}", "{{ 6 / 3 }} {{ 10 // 3.0 }} {{ 1 - 1.0 }}",
    ],
    "comparisons": [
        "{{ 1 == 1.0 }} {{ 1 == true }} {{ '1' == 1 }} {{ [1, 2] == [1, 2.0] }} {{ {'a': 1} == {'a': 1} }} {{ (1,) == [1] }} {{ none == none }} {{ nope == nada }}",
        "{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 3 > 2 >= 2 }} {{ 'a' < 'b' }} {{ 'é' > 'z' }} {{ [1, 2] < [1, 3] }} {{ 1 != 2 }}",
        "{{ 'ell' in 'Hello' }} {{ 1 in list }} {{ 5 not in list }} {{ 'a' in dict }} {{ not 'q' in dict }} {{ '' in '' }} {{ none in [none] }} {{ 1 in (1, 2) }} {{ 1 in nope }}",
        "{{ yes and no }} {{ yes or no }} {{ not yes }} {{ '' or 'x' }} {{ 0 and 1 }} {{ [] or {} or none or 'last' }} {{ 1 and 'two' }} {{ not nope }} {{ no or yes and no }}",
        "{{ 'a' if yes else 'b' }} {{ 'a' if no }} {{ 'a' if no else 'b' if no else 'c' }} {{ ('x' if n > 5 else 'y') ~ '!' }}",
    ],
    "subscripts": [
        "{{ list[0] }} {{ list[-1] }} {{ list[9] }} {{ list.0 }} {{ name[1] }} {{ text[10] }} {{ dict['a'] }} {{ dict.a[0] }} {{ dict['nope'] }} {{ dict.C.d }} {{ users[0].name }} {{ users[0]['age'] }}",
        "{{ list[1:] }} {{ list[:-1] }} {{ list[::-1] }} {{ list[::2] }} {{ list[-2:] }} {{ list[5:] }} {{ list[2:0:-1] }} {{ name[1:3] }} {{ name[::-1] }} {{ name[:-1] }} {{ text[::-1] }} {{ (1, 2, 3)[1:] }} {{ list[:] }} {{ list[0:2:1] }} {{ list[-9:9] }} {{ name[9:] }}",
        "{{ users[2].items is mapping }} {{ users[2]['items'] }} {{ none.x }} {{ none['x'] }} {{ 'abc'.x }} {{ n.x }} {{ dict[1] }} {{ list['x'] }} {{ messages[0]['content'][0] }}",
        "{{ dict.items() | list }} {{ dict.keys() | list }} {{ dict.values() | list }} {{ dict.get('a') }} {{ dict.get('q') }} {{ dict.get('q', 5) }} {{ dict.items() | length }}",
        "{{ (list)[0] }}{{ [1,2,3][1] }}{{ {'a': 1}['a'] }}{{ {'a': 1}.a }}{{ 'abc'[0] }}",
    ],
    "statements": [
        "{% if n == 1 %}a{% elif n == 7 %}b{% elif yes %}c{% else %}d{% endif %}", "{% if no %}a{% else %}d{% endif %}{% if no %}x{% endif %}", "{% if nope %}a{% elif nope is not defined %}b{% endif %}",
        "{% set a = 1 %}{% set b, c = 2, 3 %}{% set d = 1, 2 %}{{ a }}{{ b }}{{ c }}{{ d }}", "{% set a %}x{{ n }}\ny{% endset %}[{{ a }}]", "{% set a | upper | trim %}  x {% endset %}[{{ a }}]",
        "{% set ns = namespace(a=1, b='x') %}{% for i in list %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}{{ ns.b }}{{ ns.c }}", "{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a + ns.b }}",
        "{% set a = 1 %}{% for i in list %}{{ a }}{% set a = a + i %}{{ a }};{% endfor %}{{ a }}", "{% if yes %}{% set a = 5 %}{% endif %}{{ a }}", "{% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}{{ a }}",
        "{% for k, v in dict.items() %}{{ k }}={{ v }};{% endfor %}{% for k, v in dict | items %}{{ k }}{% endfor %}{% for k in dict %}{{ k }}{% endfor %}{% for c in name %}{{ c }}.{% endfor %}",
        "{% for i in [] %}x{% else %}none{% endfor %}{% for i in list %}{{ i }}{% else %}none{% endfor %}{% for i in nope %}x{% else %}n{% endfor %}",
        "{% for u in users if u.age %}{{ loop.index }}/{{ loop.length }}:{{ u.name }}{{ ', ' if not loop.last }}{% endfor %}", "{% for i in list if i > 5 %}x{% else %}none{% endfor %}",
        "{% for i in list %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.depth0 }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.cycle('a', 'b') }};{% endfor %}",
        "{% for i in [1, 1, 2] %}{{ loop.changed(i) }}{% endfor %}", "{% for a in list %}{% set outer = loop %}{% for b in 'xy' %}{{ outer.index }}{{ loop.index }}{{ loop.depth }} {% endfor %}{% endfor %}",
        "{% for i in range(10) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 5 %}{% break %}{% endif %}{{ i }}{% endfor %}", "{% for (a, b) in [(1, 2), (3, 4)] %}{{ a }}{{ b }}{% endfor %}{% for a, (b, c) in [[1, [2, 3]]] %}{{ a + b + c }}{% endfor %}",
        "{% for x in range(3) %}{{ x }}{% endfor %}{{ range(2, 5) | list }}{{ range(5, 0, -2) | list }}{{ range(0) | list }}", "{% filter upper %}a{{ name }}{% filter lower %}QQ{% endfilter %}{% endfilter %}", "{% filter replace('a', 'b') | upper %}banana{% endfilter %}",
        "a{% generation %}{{ name }}\n{% endgeneration %}\nb", "{% for i in list %}{% for i in 'ab' %}{{ i }}{% endfor %}{{ i }}{% endfor %}{{ i }}", "{{ range(3) | list }}{% set t = namespace(users[0], z=1) %}{{ t.name }}{{ t.z }}",
    ],
    "macros": [
        "{% macro m(a, b=2, c='x') %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(1, c='y') }}{{ m(b=5, a=0) }}{{ m() }}", "{% macro m(a) %}\n  {{ a }}\n{% endmacro %}\n{{ m(1) }}|{{ m('é') | upper }}|{{ m(2) | trim }}",
        "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}", "{% set g = 1 %}{% macro m() %}{{ g }}{% set g = 9 %}{{ g }}{% endmacro %}{% set g = 2 %}{{ m() }}{{ g }}",
        "{% macro outer() %}<{{ caller() }}>{% endmacro %}{% call outer() %}in{{ n }}{% endcall %}", "{% macro each(xs) %}{% for x in xs %}{{ caller(x) }},{% endfor %}{% endmacro %}{% call(v) each(list) %}{{ v * 2 }}{% endcall %}",
        "{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m('q') }}{{ m(*['r', 's']) }}{{ m(**{'a': 't'}) }}", "{% macro ty(s) %}{% if s.type is string %}{{ s.type }}{% else %}{{ s.type | join(' | ') }}{% endif %}{% endmacro %}{% for t in tools %}{% for k, v in t.function.parameters.properties.items() %}{{ k }}: {{ ty(v) }}; {% endfor %}{% endfor %}",
        "{% macro m(x) -%}\n  {%- for i in x %}{{ i }}{% endfor -%}\n{%- endmacro -%}\n{{- m(list) -}}\n",
    ],
    "filters": [
        "{{ dict | tojson }}", "{{ tools | tojson(indent=4) }}", "{{ tools | tojson(indent=2) }}\n{{ [] | tojson(indent=2) }}{{ {} | tojson(indent=2) }}{{ [[]] | tojson(indent=1) }}", "{{ text | tojson }} {{ html | tojson }} {{ 'a\\x00\\x1f\\x7f\\u2028é\\b\\f/' | tojson }}",
        "{{ text | tojson(ensure_ascii=true) }}{{ '\\x7f' | tojson(ensure_ascii=true) }}", "{{ dict | tojson(sort_keys=true) }} {{ list | tojson(separators=(',', ':')) }} {{ dict | tojson(indent=0) }} {{ (1, 2) | tojson }} {{ floats | tojson }} {{ none | tojson }}{{ true | tojson }}",
        "[{{ text | trim }}][{{ '--a--' | trim('-') }}][{{ n | trim }}]", "{{ words | join }} {{ words | join(', ') }} {{ users | join('/', attribute='name') }} {{ list | join('-') }} {{ 'abc' | join('.') }} {{ nope | join }}",
        "{{ nope | default('d') }} {{ empty | default('d') }} {{ empty | default('d', true) }} {{ none | d('z') }} {{ none | d('z', boolean=True) }} {{ nope | default }} {{ name | default('q') }}",
        "{{ dict | dictsort }} {{ dict | dictsort(true) }} {{ {'x': 2, 'y': 1} | dictsort(by='value') }} {{ {'x': 2, 'y': 1} | dictsort(reverse=true) }}",
        "{{ users | map(attribute='name') | list }} {{ words | map('upper') | list }} {{ users | map(attribute='zip', default='-') | join }} {{ list | map('string') | join('+') }} {{ words | map('replace', 'p', 'b') | list }} {{ nested | map('length') | list }} {{ users | map(attribute='tags.0', default='?') | join(',') }}",
        "{{ list | select('odd') | list }} {{ list | reject('equalto', 1) | list }} {{ [0, 1, '', 'a', none] | select | list }} {{ words | select('in', ['fig', 'pear']) | list }} {{ list | select('>', 1) | list }} {{ [1, 'a', none] | reject('string') | list }}",
        "{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | list }} {{ messages | rejectattr('role', '==', 'user') | list | length }} {{ users | selectattr('tags') | list | length }} {{ users | selectattr('age', 'none') | map(attribute='name') | first }} {{ users | selectattr('tags', 'defined') | list | length }}",
        "{{ list | length }} {{ name | count }} {{ text | length }} {{ dict | length }} {{ nope | length }} {{ '' | length }}", "{{ list | first }} {{ list | last }} {{ name | first }} {{ [] | first }} {{ dict | first }} {{ words | map('upper') | first }}",
        "{{ name | upper }} {{ name | lower }} {{ 'hello wORLD-foo (bar) they\\'re' | title }} {{ 'hELLO World' | capitalize }} {{ 'éa' | capitalize }} {{ 'ÀÉ' | lower }} {{ 'straße' | upper | length > 5 }}",
        "{{ 'aXbXc' | replace('X', '-') }} {{ 'aXbXc' | replace('X', '-', 1) }} {{ n | replace(7, 8) }}", "{{ '12' | int }} {{ '12.7' | int }} {{ 'x' | int }} {{ 'x' | int(5) }} {{ 3.9 | int }} {{ -3.9 | int }} {{ '1f' | int(base=16) }} {{ none | int }} {{ true | int }} {{ ' 5 ' | int }}",
        "{{ '1.5' | float }} {{ 'x' | float }} {{ 3 | float }} {{ '1e3' | float }} {{ none | float(2.5) }}", "{{ 3 | string ~ 1 }} {{ -3 | abs }} {{ -2.5 | abs }} {{ [1] | string }}", "{{ 2.5 | round }} {{ 3.5 | round }} {{ 2.345 | round(2) }} {{ 2.1 | round(method='ceil') }} {{ 2.9 | round(0, 'floor') }} {{ 7 | round }} {{ 1234.5 | round(-2) }}",
        "{{ words | sort }} {{ list | sort }} {{ list | sort(reverse=true) }} {{ words | sort(case_sensitive=true) }} {{ users | sort(attribute='name') | map(attribute='name') | join }}", "{{ list | reverse | list }} {{ name | reverse }} {{ (1, 2) | reverse | join }}",
        "{{ list | sum }} {{ [{'v': 1}, {'v': 2}] | sum(attribute='v') }} {{ [1.5, 2] | sum(start=1) }} {{ list | min }} {{ list | max }} {{ words | max }} {{ words | min }} {{ [] | max }}", "{{ words | unique | list }} {{ [1, 1, 2, '1'] | unique | list }} {{ words | unique(case_sensitive=true) | list }}",
        "{{ lines | indent }}|{{ lines | indent(2, true) }}|{{ lines | indent('> ', blank=true) }}|{{ '' | indent(2, true) }}", "{{ [1, 2, 3, 4, 5] | batch(2) | list }} {{ [1, 2, 3] | batch(2, 'x') | list }}", "{{ name | list }} {{ dict | list }} {{ nope | list }} {{ (1, 2) | list }}",
        "{{ dict | attr('items') is callable }} {{ 'a b  c' | wordcount }} {{ html | e }} {{ html | safe }} {{ dict | items | list }} {{ nope | items | list }}", "{{ list | select('odd') is iterable }}{% if list | select('>', 9) %}truthy{% endif %}{% set g = list | map('string') %}{{ g | join }}{{ g | join }}",
        "{{ ' x ' | trim | upper | replace('X', 'yy') | length }} {{ (list | length) + 1 }} {{ list | length + 1 }} {{ -1 | abs }} {{ not list | length }}",
    ],
    "tests": [
        "{{ n is defined }}{{ nope is defined }}{{ nope is not defined }}{{ nope is undefined }}{{ dict.q is defined }}{{ nil is none }}{{ n is none }}{{ nil is not none }}",
        "{% for v in [1, 1.5, true, 'a', none, [], {}, (1,), range] %}{{ v is string }}{{ v is number }}{{ v is integer }}{{ v is float }}{{ v is boolean }}{{ v is mapping }}{{ v is sequence }}{{ v is iterable }}{{ v is callable }}{{ v is none }}{{ v is true }}{{ v is false }};{% endfor %}",
        "{{ nope is string }}{{ nope is mapping }}{{ nope is iterable }}{{ nope is sequence }}{{ nope is none }}{{ nope is number }}", "{{ 3 is odd }}{{ 4 is even }}{{ 9 is divisibleby 3 }}{{ 9 is divisibleby(2) }}{{ 1 is eq 1 }}{{ 1 is ne 1 }}{{ 1 is lt 2 }}{{ 2 is ge 3 }}{{ 2 is gt(1) }}{{ 2 is le 2 }}{{ 1 is equalto 1 }}{{ 1 is sameas 1 }}{{ 1 is sameas 1.0 }}",
        "{{ 'a' is in 'abc' }}{{ 1 is in list }}{{ 1 is not in list }}{{ 'abc' is lower }}{{ 'ABC' is upper }}{{ 'upper' is filter }}{{ 'odd' is test }}{{ not n is none }}{{ n is defined and n is number }}{{ 'x' if n is defined else 'y' }}{{ n is string or n is integer }}",
    ],
    "methods": [
        "[{{ text.strip() }}][{{ text.lstrip() }}][{{ text.rstrip() }}][{{ 'xxaxx'.strip('x') }}][{{ '\\n\\na\\n'.rstrip('\\n') }}][{{ 'xyaxy'.lstrip('yx') }}]", "{{ 'a,b,,c'.split(',') }} {{ 'a,b,c'.split(',', 1) }} {{ ' a  b '.split() }} {{ 'a b c'.split(None, 1) }} {{ 'a</think>b'.split('</think>')[-1] }} {{ 'a,b,c'.rsplit(',', 1) }} {{ ' a b c '.rsplit(None, 1) }} {{ ''.split(',') }} {{ ''.split() }}",
        "{{ lines.splitlines() }} {{ lines.splitlines(true) }} {{ 'a\\n'.splitlines() }}", "{{ name.startswith('Wo') }}{{ name.endswith('ld') }}{{ name.startswith(('a', 'W')) }}{{ name.endswith('') }}", "{{ name.upper() }}{{ name.lower() }}{{ 'hello world they\\'re'.title() }}{{ 'hELLO'.capitalize() }}",
        "{{ 'aXbXc'.replace('X', '') }}{{ 'aXbXc'.replace('X', 'YY', 1) }}{{ 'abc'.replace('', '-') }}{{ ''.replace('', '-') }}{{ 'é你'.replace('', '.') }}{{ 'abc'.replace('', '-', 2) }}", "{{ name.find('o') }}{{ name.find('q') }}{{ text.find('你') }}{{ 'abab'.rfind('ab') }}{{ 'abab'.index('b') }}{{ 'abab'.count('ab') }}{{ 'aaa'.count('aa') }}{{ 'ab'.count('') }}",
        "{{ ', '.join(words) }}{{ ''.join(['a', 'b']) }}{{ '-'.join('abc') }}", "{{ 'abc'.isalpha() }}{{ '12'.isdigit() }}{{ 'a1'.isalnum() }}{{ 'AB'.isupper() }}{{ 'ab'.islower() }}{{ ' '.isspace() }}{{ ''.isalpha() }}{{ 'aB'.islower() }}{{ '1.5'.isnumeric() }}{{ 'a b'.isalpha() }}", "{{ 'prefix-x'.removeprefix('prefix-') }}{{ 'x.py'.removesuffix('.py') }}{{ 'x'.removesuffix('') }}",
        "{{ list.index(1) }}{{ [1, 1].count(1) }}{{ (1, 2).index(2) }}", "{% set f = name.upper %}{{ f() }}", "{{ messages[-1].content.strip().split(' ')[0].upper()[::-1] }}",
    ],
    "keys": [
        "{% set d = {0: 'a', 512: 'b', 1.5: 'c', none: 'd', (1, 'x'): 'e', 'k': 'f', true: 'g'} %}{{ d }} {{ d[0] }} {{ d[512.0] }} {{ d[1.5] }} {{ d[none] }} {{ d[(1, 'x')] }} {{ d[1] }} {{ d.k }} {{ d[7] is defined }} {{ d | length }}",
        "{% for k, v in {4: 1, 0: 2, 2: 3} | dictsort %}{{ k }}={{ v }};{% endfor %}{% for k in {1: 2, none: 3} %}{{ k }}{% endfor %} {{ {2: 'x', 1: 'y'} | tojson }} {{ {2: 'x', 1: 'y'} | tojson(sort_keys=true) }} {{ {none: 1, true: 2, 2.5: 3} | tojson }}",
        "{{ 1 in {1: 2} }}{{ 1.0 in {1: 2} }}{{ none in {1: 2} }}{{ {1: 2}.get(1) }}{{ {1: 2}.get(3, 'n') }}{{ {1: 2} == {1.0: 2.0} }}{{ {1: 2}.items() | list }}{{ {1: 2, 1.0: 3, true: 4} }}{{ dict([('a', 1), [2, 3]]) }}{{ dict({'a': 1}, b=2) }}",
        "{{ {[1]: 2} }}", "{{ {{}: 2} }}", "{{ [1] in {} }}", "{{ {}[[1]] is defined }}", "{{ {(1,): 2} | tojson }}", "{{ {1: 2, 'a': 3} | tojson(sort_keys=true) }}", "{{ {1: 2, 'a': 3} | dictsort }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(**{1: 2}) }}",
        "{% for lo in [0, 100, 3000, 9999] %}{% set ns = namespace(v=none) %}{% for k, v in {0: 0, 512: 128, 1024: 256, 16384: 1024} | dictsort %}{% if ns.v is none and lo <= k %}{% set ns.v = v %}{% endif %}{% endfor %}{{ ns.v }} {% endfor %}",
    ],
    "formats": [
        "{{ '<think{}>'.format(':x') }} {{ '{} {}'.format(1, 'b') }} {{ '{1}{0}{1}'.format('a', 'b') }} {{ '{a}-{b}'.format(a=1, b=[2]) }} {{ '{{}}{}'.format(none) }} {{ '{0.name} {0[age]} {1[0]}'.format(users[0], list) }} {{ '{!r} {!s}'.format('q', 'q') }}",
        "[{{ '{:>5}|{:<5}|{:^5}|{:*^6}|{:5}|{:5}'.format('ab', 'ab', 'ab', 'ab', 'ab', 7) }}] {{ '{:05d} {:+d} {: d} {:,} {:_} {:x} {:X} {:#x} {:o} {:b}'.format(42, 42, 42, 1234567, 1234567, 255, 255, 255, 8, 5) }}",
        "{{ '{:.2f} {:8.3f} {:08.2f} {:e} {:g} {:%} {:.1%} {:,.2f} {}'.format(3.14159, 2.5, -2.5, 12345.678, 0.0001, 0.5, 0.123, 1234567.891, 2.0) }} {{ '{:.2}|{:é>4}|{:<3}'.format('abcd', 'x', true) }} {{ '{:d}'.format(true) }}",
        "{{ '%s is %d, %5.2f%% of %r' % ('x', 7, 12.345, 'q') }} {{ '%s' % name }} {{ '%s' % [1, 2] }} {{ '%(a)s+%(b)03d' % {'a': 1, 'b': 2} }} {{ '%5s|%-5s|%05d|%+d|%x|%e' % ('a', 'b', 42, 3, 255, 1.5) }} {{ 'plain' % {} }} {{ '%i %u %.3s' % (3.9, 4, 'abcdef') }}",
        "{{ '%s %s' | format(1, 'a') }} {{ '%(x)s' | format(x=2) }} [{{ 'ab' | center(7) }}] [{{ 'ab'.center(7) }}|{{ 'abc'.center(6, '*') }}|{{ 'ab'.ljust(4) }}|{{ 'ab'.rjust(4, '.') }}|{{ '-5'.zfill(4) }}|{{ '5'.zfill(3) }}] {{ 'a:b:c'.partition(':') }} {{ 'a:b:c'.rpartition(':') }} {{ 'abc'.partition(':') }} {{ 'abc'.rpartition(':') }}",
        "{{ '{}'.format() }}", "{{ '{a}'.format(b=1) }}", "{{ '{'.format(1) }}", "{{ '}'.format(1) }}", "{{ '{0.x}'.format(1) }}", "{{ '{:d}'.format('a') }}", "{{ '{:s}'.format(1) }}", "{{ '{:>5}'.format(none) }}", "{{ '%d' % 'a' }}", "{{ '%s %s' % 'a' }}", "{{ '%s' % (1, 2) }}", "{{ '%' % 1 }}", "{{ '%q' % 1 }}", "{{ '%(a)s' % 1 }}", "{{ 5 % 'a' }}", "{{ 'a'.center(5, 'xy') }}", "{{ '{!q}'.format(1) }}",
    ],
    "safe texts": [
        "{{ \"it's \" | safe + html }} {{ html + '<' | safe }} {{ '<' | safe + '<' | safe + '<' }} {{ '<' | safe ~ '<' }} {{ '<' | e + '<' }} {{ '<' | e | e }} {{ ('<' | safe) * 2 + '>' }} {{ ('<a>' | safe).replace('a', '<') }} {{ ('<' | safe | trim) + '>' }} {{ ('a' | safe | upper) + '<' }} {{ ('<' | safe | string) + '<' }} {{ html | safe == html }} {{ '<' | safe | tojson }} {{ '<' | e is escaped }}{{ '<' is escaped }}",
    ],
    "nothing to go through": [
        "{{ none | selectattr('a') | list }}{{ none | select | list }}{{ '' | rejectattr('a', 'equalto', 1) | list }}{{ 0 | map('upper') | list }}{{ false | reject | list }}{{ none | map(attribute='x') | list }}{{ none | selectattr('type', 'equalto', 'x') | list | length > 0 }}",
        "{{ none | list }}", "{{ none | join }}", "{{ 5 | select | list }}", "{{ none | length }}", "{{ none | first }}",
    ],
    "lines": [
        "{{ 1\n ~\n nope.x }}", "{% if 1 and\n nope.x.y %}{% endif %}", "a\n{% if no %}\n{% elif\n\n nope.x %}\n{% endif %}", "{% for i in\n\n nope.x %}{% endfor %}", "{% for i in list\n if nope.x %}{% endfor %}", "{% set a =\n nope.x %}", "{{ [1,\n nope.x] }}", "{{ nope.x\n | upper }}",
        "{% macro m() %}\n{{ nope.x }}\n{% endmacro %}\n\n{{ m() }}", "{% macro m(a) %}{{ a }}{% endmacro %}\n{{ m(\n nope.x) }}", "{{ 'a'\n + 1 }}", "x{{ name }}\n{{ name\n }}{{ 1 +\n 'a' }}", "{% set a | upper\n | nosuch %}x{% endset %}", "{% filter upper %}\n{{ nope.x }}\n{% endfilter %}",
        "\n\n{% call nope() %}\n{% endcall %}", "{% for a, b in [[1, 2],\n [3]] %}\n\n{% endfor %}", "{{\n nope.x if 1\n else 2 }}", "{{ messages[0]['content'] ~\n raise_exception('x') }}", "{{- '\n' + 1 }}", "{%- set x = 'a\nb' -%}\n{{ x + 1 }}", "{{ 1 +\n 2 +\n 'a' }}", "{{ nope.x or\n 1 or\n 2 }}", "{{ {'a':\n nope.x} }}", "{{ not\n nope.x }}", "{{ dict(\n a=nope.x) }}",
    ],
    "dates": ["{{ strftime_now('%Y-%m-%d') }} {{ strftime_now('%d %b %Y') }} {{ strftime_now('%H:%M') }}[{{ strftime_now('') }}]"],
    "errors": [
        "{{ nope.x }}", "a\n{{ nope.x.y }}", "{{ nope() }}", "{{ nope + 1 }}", "{{ 1 + 'a' }}", "{{ 'a' + 1 }}", "{{ 1 < 'a' }}", "{{ [1] + (2,) }}", "{{ 1 / 0 }}", "{{ 1 % 0 }}", "a\nb\n{{ raise_exception('No ' ~ name) }}", "{{ n | nofilter }}", "{{ n is notest }}",
        "{% if %}{% endif %}", "{% for x in %}{% endfor %}", "\n\n{% endif %}", "{% if yes %}", "{{ 1", "{{ (1 }}", "{% unknown %}", "{{ 'abc }}", "{# never", "{% raw %}x", "{{ 1 2 }}", "{{ }}", "{{ a b }}", "{% for a, b in [1] %}{% endfor %}", "{% for a, b in [[1, 2, 3]] %}{% endfor %}", "{{ n.upper() }}",
        "{{ 5 in 'a' }}", "{{ list[::0] }}", "{{ range(1000000) }}", "{% set name.x = 1 %}", "{{ n() }}", "{% for x in 5 %}{% endfor %}", "{{ dict | tojson(nope=1) }}", "{{ nope | tojson }}", "{{ list | map | list }}", "{{ [nope] | tojson }}", "{{ 'a'.index('b') }}", "{{ 5 | length }}", "{{ list.append(1) }}", "{{ -name }}", "{{ !x }}", "{{ a.1.b }}{{ 1.x }}", "{% set x %}",
        "{{ messages | selectattr('role', 'nosuch') | list }}", "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", "{{ ', '.join(list) }}", "{{ ''.split('') }}", "{{ x if y is defined else }}", "{% elif x %}", "{{ 'a' if }}", "{{ {1 2} }}", "{{ [1, 2 }}", "{{ f(a=1, 2) }}",
    ],
}

# Programs in the shape of the templates that models carry.
CHATML = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content ~ '\\n\\n' }}{%- endif %}
    {{- "Functions at hand:" }}
    {%- for tool in tools %}
        {{- "\\n" ~ (tool | tojson) }}
    {%- endfor %}
    {{- "<|im_end|>\\n" }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set state = namespace(searching=true, last_question=messages|length - 1) %}
{%- for m in messages[::-1] %}
    {%- if state.searching and m.role == "user" and m.content is string and not (m.content.startswith('<result>') and m.content.endswith('</result>')) %}
        {%- set state.searching = false %}
        {%- set state.last_question = messages|length - 1 - loop.index0 %}
    {%- endif %}
{%- endfor %}
{%- for m in messages %}
    {%- set body = m.content if m.content is string else '' %}
    {%- if m.role == "user" or (m.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + m.role + '\\n' + body + '<|im_end|>' + '\\n' }}
    {%- elif m.role == "assistant" %}
        {%- set thought = '' %}
        {%- if '</think>' in body %}
            {%- set thought = body.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set body = body.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>' ~ m.role ~ '\\n' }}
        {%- if loop.index0 > state.last_question and (loop.last or thought) %}
            {{- '<think>\\n' ~ thought.strip('\\n') ~ '\\n</think>\\n\\n' }}
        {%- endif %}
        {{- body }}
        {%- for call in m.tool_calls or [] %}
            {%- if call.function %}{%- set call = call.function %}{%- endif %}
            {{- '\\n<call>{"name": "' ~ call.name ~ '", "arguments": ' }}
            {{- call.arguments if call.arguments is string else call.arguments | tojson }}
            {{- '}</call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif m.role == "tool" %}
        {%- if loop.first or loop.previtem.role != "tool" %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\\n<result>' ~ body ~ '</result>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != "tool" %}{{- '<|im_end|>\\n' }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}
"""

HEADERS = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "1 Jan 2024" %}
    {%- endif %}
{%- endif %}
{#- The system message goes first, whatever came. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set preamble = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set preamble = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nIt is " + date_string + ".\\n\\n" }}
{%- if tools is not none %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- preamble }}
{{- "<|eot_id|>" }}
{%- for m in messages %}
    {{- '<|start_header_id|>' + ('environment' if m.role == 'tool' else m.role) + '<|end_header_id|>\\n\\n' -}}
    {%- if 'tool_calls' in m %}
        {%- if not m.tool_calls|length == 1 %}
            {{- raise_exception("One call at a time, please!") }}
        {%- endif %}
        {%- set call = m.tool_calls[0].function %}
        {{- '{"name": "' + call.name + '", "parameters": ' }}
        {{- call.arguments | tojson }}
        {{- "}" }}
    {%- elif m.role == "tool" and (m.content is mapping or m.content is iterable) %}
        {{- m.content | tojson }}
    {%- else %}
        {{- m['content'] | trim }}
    {%- endif %}
    {{- "<|eot_id|>" }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

ALTERNATING = """{%- if messages[0]["role"] == "system" -%}
    {%- set preamble = messages[0]['content'] ~ '\\n\\n' -%}
    {%- set turns = messages[1:] -%}
{%- else -%}
    {%- set preamble = '' -%}
    {%- set turns = messages -%}
{%- endif -%}
{{ bos_token }}
{%- for turn in turns | rejectattr("role", "equalto", "note") -%}
    {%- if (turn['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Roles must take turns, beginning with the user") }}
    {%- endif -%}
    {%- set role = "model" if turn['role'] == 'assistant' else turn['role'] -%}
    {{ '[' + role + ']\n' + (preamble if loop.first else '') }}
    {%- if turn['content'] is string -%}
        {{ turn['content'] | trim }}
    {%- elif turn['content'] is iterable -%}
        {%- for part in turn['content'] -%}
            {%- if part['type'] == 'image' -%}
                {{ '<image>' }}
            {%- elif part['type'] == 'text' -%}
                {{ part['text'] | trim }}
            {%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("What is a " ~ turn['content'] ~ "?") }}
    {%- endif -%}
    {{ '[/' ~ role ~ ']\n' }}
{%- endfor -%}
{% if add_generation_prompt %}{{ '[model]\n' }}{% endif %}"""

TYPESCRIPT = """{%- macro type_of(schema, nullable=false) -%}
    {%- if schema.type == "array" -%}
        {{- type_of(schema['items']) + "[]" if schema['items'] else "any[]" -}}
    {%- elif schema.type is defined and schema.type is iterable and schema.type is not string and schema.type is not mapping -%}
        {{- schema.type | join(" | ") -}}
    {%- elif schema.oneOf -%}
        {%- for choice in schema.oneOf -%}
            {{- type_of(choice, nullable=true) -}}
            {%- if not loop.last %}{{- " | " -}}{% endif -%}
        {%- endfor -%}
    {%- elif schema.type == "string" -%}
        {%- if schema.enum -%}{{- '"' + schema.enum|join('" | "') + '"' -}}{%- else -%}{{- "string" }}{%- endif -%}
    {%- elif schema.type == "object" and schema.properties -%}
        {{- "{\\n" }}
        {%- for name, property in schema.properties.items() -%}
            {{- name -}}
            {%- if name not in (schema.required or []) -%}{{- "?" }}{%- endif -%}
            {{- ": " ~ type_of(property) }}
            {%- if not loop.last %}{{-", " }}{%- endif -%}
        {%- endfor -%}
        {{- "}" }}
    {%- else -%}{{- "any" }}{%- endif -%}
    {%- if nullable -%}{{- "?" -}}{%- endif -%}
{%- endmacro -%}
{%- for tool in tools or [] %}
    {%- set tool = tool.function %}
    {{- "// " + tool.description + "\\nfunction "+ tool.name + "(_: " + type_of(tool.parameters) + ");\\n\\n" }}
{%- endfor %}
{%- for m in messages -%}
    {%- if m.role == 'assistant' and m.tool_calls %}
        {%- generation %}{{- "<|call|>" + m.tool_calls[0].function.name }}{% endgeneration %}
    {%- else %}
        {{- "<|start|>" + m.role + "<|message|>" + (m.content or '') + "<|end|>" }}
    {%- endif %}
{%- endfor -%}"""

CALL = {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": {
    "name": "get_weather", "arguments": {"city": "Zürich", "days": 2, "exact": 1.0}}}]}
CONVERSATIONS = [
    {"messages": [{"role": "user", "content": "Hi"}]},
    {"messages": [{"role": "system", "content": " Be brief.\n"}, {"role": "user", "content": " Hi 你好 \n"}]},
    {"messages": DATA["messages"]},
    {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nb"}, {"role": "user", "content": "c\n\nd"},
                  {"role": "assistant", "content": "<think>why</think>e"}]},
    {"messages": [{"role": "user", "content": "Weather?"}, CALL, {"role": "tool", "content": "{\"t\": 21}"}, {"role": "tool", "content": "dry"},
                  {"role": "assistant", "content": "21 °C <|im_end|>"}, {"role": "user", "content": "Thanks"}], "tools": DATA["tools"]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": " look "}, {"type": "image"}]}]},
    {"messages": [{"role": "user", "content": ""}], "enable_thinking": False, "date_string": "1 Jan 2025"},
    {"messages": [{"role": "assistant", "content": "first"}]},
    {"messages": []},
    {"messages": [{"role": "user"}]},
    {"messages": [{"role": "user", "content": "x"}], "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {
        "type": "object", "properties": {"a": {"type": "array", "items": {"type": "array", "items": {"type": "string"}}}, "b": {"oneOf": [{"type": "string"}, {"type": "object"}]},
                                         "c": {"type": "object", "properties": {"x": {"type": "string", "enum": ["p", "q"]}}, "required": ["x"]}}}}}]},
]


def main():
    env = environment()
    cases = []

    def record(name, template, variables):
        case = {"name": name, "template": template, "variables": variables}
        try:
            case["text"] = env.from_string(template).render(**variables)
        except Exception as error:
            case["error"] = f"{type(error).__name__}: {error}"
            case["line"] = line_of(error)
        if case.get("variables") is DATA:
            del case["variables"]
        cases.append(case)

    for feature, snippets in SNIPPETS.items():
        for i, snippet in enumerate(snippets):
            record(f"{feature} {i}", snippet, DATA)
    from gguf import GGUFReader

    real = GGUFReader(sys.argv[1]).fields["tokenizer.chat_template"].contents()
    for name, template in {"real": real, "chatml": CHATML, "headers": HEADERS, "alternating": ALTERNATING, "typescript": TYPESCRIPT}.items():
        for i, conversation in enumerate(CONVERSATIONS):
            for prompt in (True, False):
                variables = {"bos_token": "<s>", "eos_token": "</s>", "tools": None, "documents": None, "add_generation_prompt": prompt} | conversation
                record(f"{name} {i} {prompt}", template, variables)
    templates = {}
    for case in cases:  # a whole program is stored once, under its name
        key = case["name"].split()[0]
        if key in ("real", "chatml", "headers", "alternating", "typescript"):
            templates[key] = case["template"]
            case["template"] = {"named": key}
    lines = ",\n".join(json.dumps(c, ensure_ascii=True, separators=(",", ":")) for c in cases)
    out = pathlib.Path(__file__).parent / "templates.json"
    out.write_text('{"now":' + json.dumps(NOW.strftime("%Y-%m-%d %H:%M:%S")) + ',"data":' + json.dumps(DATA) + ',"templates":' + json.dumps(templates) +
                   ',"cases":[\n' + lines + "\n]}\n")


if __name__ == "__main__":
    main()
