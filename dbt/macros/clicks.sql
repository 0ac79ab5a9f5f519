{#- How events are read from their payloads: by OPS.STREAM_MAPPINGS, and so by the source's mapping file. -#}

{#- Fields of the click contract (warehouse/contract.py), in its order. -#}
{% macro click_fields() -%}
    {{ return([
        'event_id', 'event_type', 'event_time', 'sent_at', 'session_id', 'visitor_id', 'customer_id', 'product_id',
        'order_id', 'page', 'price', 'quantity', 'currency', 'country', 'device', 'channel', 'user_agent',
    ]) }}
{%- endmacro %}

{#- Streams as mapped when the model is compiled, for GET_PATH takes its path as a literal only: a list of
    {source_system, stream, time_format, paths: {field: path}}. Empty where no source has clicks. -#}
{% macro click_mappings() -%}
    {%- set mappings = {} -%}
    {%- set stream_mappings = source('ops', 'stream_mappings') -%}
    {%- if execute -%}
        {%- set rows = run_query(
            'select source_system, stream, field_name, field_path, time_format from ' ~ stream_mappings
            ~ ' order by source_system, stream, field_name'
        ) -%}
        {%- for row in rows -%}
            {%- set mapping = mappings.setdefault(
                (row[0], row[1]), {'source_system': row[0], 'stream': row[1], 'time_format': 'iso', 'paths': {}}
            ) -%}
            {%- do mapping['paths'].update({row[2]: row[3]}) -%}
            {%- if row[4] -%}{%- do mapping.update({'time_format': row[4]}) -%}{%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {{ return(mappings.values() | list) }}
{%- endmacro %}

{#- A condition that tells rows of these mappings from others. -#}
{% macro is_of_streams(mappings) -%}
    {%- if not mappings -%}
        false
    {%- endif -%}
    {%- for mapping in mappings -%}
        {{ ' or ' if not loop.first }}(_source_system = {{ quoted(mapping['source_system']) }} and _topic = {{ quoted(mapping['stream']) }})
    {%- endfor -%}
{%- endmacro %}

{#- A text as a literal. -#}
{% macro quoted(text) -%}
    '{{ text | replace("\\", "\\\\") | replace("'", "''") }}'
{%- endmacro %}

{#- Text of one field of the payload, without the blanks around it, NULL where nothing is left; of identifiers, which
    have to be found elsewhere, without tabs and line breaks either. Streams that have it in the same place are read
    together. -#}
{% macro click_text(mappings, field) -%}
    {%- set blanks = ", ' \t\r\n'" if field.endswith('_id') else '' -%}
    {%- set places = {} -%}
    {%- for mapping in mappings if field in mapping['paths'] -%}
        {%- do places.setdefault(mapping['paths'][field], []).append(mapping) -%}
    {%- endfor -%}
    {%- if not places -%}
        cast(null as varchar)
    {%- elif places | length == 1 and (places.values() | first) | length == mappings | length -%}
        nullif(trim(get_path(payload, {{ quoted(places.keys() | first) }})::varchar{{ blanks }}), '')
    {%- else -%}
        nullif(
            trim(
                case
                    {%- for path, streams in places.items() %}
                    when {{ is_of_streams(streams) }} then get_path(payload, {{ quoted(path) }})::varchar
                    {%- endfor %}
                end{{ blanks }}
            ),
            ''
        )
    {%- endif -%}
{%- endmacro %}

{#- An identifier, as clean_id has it. -#}
{% macro click_id(column) -%}
    iff(
        conventions.float_formatted_ids and regexp_like({{ column }}, '^[0-9]+[.]0+$'),
        split_part({{ column }}, '.', 1),
        {{ column }}
    )
{%- endmacro %}

{#- How the times of a row are written: iso, seconds or milliseconds. -#}
{% macro click_time_format(mappings) -%}
    {%- set others = mappings | rejectattr('time_format', 'equalto', 'iso') | list -%}
    {%- if others -%}
        case
            {%- for mapping in others %}
            when {{ is_of_streams([mapping]) }} then {{ quoted(mapping['time_format']) }}
            {%- endfor %}
            else 'iso'
        end
    {%- else -%}
        'iso'
    {%- endif -%}
{%- endmacro %}

{#- What stands in text where an object or array was sent is no identifier. -#}
{% macro plain_text(column) -%}
    iff(left({{ column }}, 1) in ('{', '['), null, {{ column }})
{%- endmacro %}

{#- UTC of an event's time as text, NULL where it can't be read. Most are written as JavaScript does, and
    those take the short way.
    text: trimmed; time_format: column that says how it is written; timezone: of times without an offset. -#}
{% macro click_time(text, time_format, timezone) -%}
    case
        when {{ text }} is null then null
        when {{ time_format }} <> 'iso'
            then iff(
                {{ is_plain_number(text) }}
                and try_to_decimal({{ text }}, 38, 6) between 0 and iff({{ time_format }} = 'seconds', 253402300799, 253402300799999),
                dateadd(
                    'microsecond',
                    round(try_to_decimal({{ text }}, 38, 6) * iff({{ time_format }} = 'seconds', 1000000, 1000), 0)::bigint,
                    '1970-01-01 00:00:00'::timestamp_ntz
                ),
                null
            )
        when
            regexp_like({{ text }}, '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?Z$')
            then try_cast(left({{ text }}, length({{ text }}) - 1) as timestamp_ntz)
        else {{ text_to_utc(text, clock_time(text), timezone) }}
    end
{%- endmacro %}

{#- Words by which programs that read web sites name themselves in their user agent (RFC 9309 asks them to). -#}
{% macro is_crawler(user_agent) -%}
    regexp_like(lower({{ user_agent }}), '.*(bot[/;,)]|bot$|crawl|spider|slurp|headless|scrap|python-|curl/|wget/).*')
{%- endmacro %}

{#- Texts of a variable, in lower case, for IN. -#}
{% macro text_list(values) -%}
    {%- for value in values -%}{{ quoted(value | lower) }}{{ ', ' if not loop.last }}{%- endfor -%}
{%- endmacro %}
