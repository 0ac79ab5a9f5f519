{#- MD5 over the parts, text, in order: the same key on every engine and after every rebuild. -#}
{% macro surrogate_key(parts) -%}
    md5(concat_ws('|', {{ parts | join(', ') }}))
{%- endmacro %}

{#- Key of the member that stands for "nobody" or "nothing": guests, for one. -#}
{% macro unknown_key() -%}
    md5('unknown')
{%- endmacro %}

{#- Where the first version of every member begins, so that facts older than the first change find it. -#}
{% macro beginning_of_time() -%}
    '1900-01-01 00:00:00'::timestamp_ntz
{%- endmacro %}

{#- A time as text, to the microsecond, for use in keys. -#}
{% macro time_as_text(expression) -%}
    to_varchar({{ expression }}, 'YYYY-MM-DD HH24:MI:SS.FF6')
{%- endmacro %}

{#- What a version of a customer or product says, as one value to compare. Control characters part the attributes, so
    that text moving from one to the next is a change. -#}
{% macro attributes_hash(columns) -%}
    md5(concat_ws(chr(31){% for column in columns %}, coalesce({{ column }}::varchar, chr(30)){% endfor %}))
{%- endmacro %}

{#- Join condition: the version of a member that holds at a moment. versions, facts: aliases of the dimension and of what
    points at it; id: identifier in both; moment: column of the facts, UTC. -#}
{% macro is_version_at(versions, facts, id, moment) -%}
    {{ facts }}.source_system = {{ versions }}.source_system
    and {{ facts }}.{{ id }} = {{ versions }}.{{ id }}
    and {{ facts }}.{{ moment }} >= {{ versions }}.valid_from
    and ({{ versions }}.valid_to is null or {{ facts }}.{{ moment }} < {{ versions }}.valid_to)
{%- endmacro %}
