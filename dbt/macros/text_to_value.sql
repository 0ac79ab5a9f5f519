{#- Text without the blanks around it, tabs and line breaks being blanks; NULL where nothing is left. -#}
{% macro clean_text(column) -%}
    nullif(trim(translate({{ column }}, '\t\r\n', '   ')), '')
{%- endmacro %}

{#- An identifier; a source that writes ids as numbers with a decimal part (17850.0) gets its decimal part cut. -#}
{% macro clean_id(column) -%}
    iff(
        conventions.float_formatted_ids and regexp_like({{ clean_text(column) }}, '^[0-9]+[.]0+$'),
        split_part({{ clean_text(column) }}, '.', 1),
        {{ clean_text(column) }}
    )
{%- endmacro %}

{#- Whether text is a plain decimal number: no thousands separator, no currency sign. Nothing else is ever guessed. -#}
{% macro is_plain_number(text) -%}
    regexp_like({{ text }}, '^[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]{1,2})?$')
{%- endmacro %}

{#- A whole number that is not negative, or NULL. 3.0 counts as 3. -#}
{% macro whole_number(text) -%}
    iff(
        regexp_like({{ text }}, '^[0-9]{1,18}([.]0+)?$'),
        try_to_decimal(split_part({{ text }}, '.', 1), 38, 0),
        null
    )
{%- endmacro %}

{#- Why a number is refused, ending in '; ', or '' where it is fine.
    text: the trimmed text; name: the column, for the message; is_required: whether it may be empty.
    Ten to the minus twelve absorbs what binary floats leave behind (2.5500000000000003), not a fifth decimal. -#}
{% macro number_reason(text, name, is_required) -%}
    case
        when {{ text }} is null then {{ "'" ~ name ~ " is empty; '" if is_required else "''" }}
        when not {{ is_plain_number(text) }}
            then '{{ name }} ''' || {{ text }} || ''' is not a plain decimal number; '
        when try_to_decimal({{ text }}, 18, 4) is null
            then '{{ name }} ''' || {{ text }} || ''' is out of range; '
        when try_to_decimal({{ text }}, 38, 12) <> try_to_decimal({{ text }}, 18, 4)
            then '{{ name }} ''' || {{ text }} || ''' has more than 4 decimal places; '
        else ''
    end
{%- endmacro %}

{#- Yes or no in the words sources use; NULL for anything else. -#}
{% macro text_to_boolean(column) -%}
    case
        when lower({{ clean_text(column) }}) in ('true', 't', 'yes', 'y', 'on', '1', '1.0') then true
        when lower({{ clean_text(column) }}) in ('false', 'f', 'no', 'n', 'off', '0', '0.0') then false
    end
{%- endmacro %}
