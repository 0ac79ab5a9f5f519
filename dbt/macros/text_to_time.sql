{#- Times that are read: YYYY-MM-DD or YYYY/MM/DD, alone or with HH:MM[:SS[.fraction]] after a blank or T, then
    optionally Z or an offset. Anything else is NULL: day-first and month-first dates can't be told apart. -#}
{% macro is_time_text(text) -%}
    regexp_like(
        {{ text }},
        '^[0-9]{4}([-/])[0-9]{2}([-/])[0-9]{2}([ T][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,9})?)?( ?(Z|[+-][0-9]{2}:?[0-9]{2}))?)?$'
    )
{%- endmacro %}

{#- The clock's reading in that text, without its offset; NULL where the text is no time (30 February, 25:00). -#}
{% macro clock_time(text) -%}
    iff(
        {{ is_time_text(text) }},
        try_cast(
            translate(regexp_replace({{ text }}, '(:[0-9]{2}([.][0-9]+)?) ?(Z|[+-][0-9]{2}:?[0-9]{2})$', '\\1'), '/T', '- ')
            as timestamp_ntz
        ),
        null
    )
{%- endmacro %}

{#- What a clock in a timezone shows, as UTC. Two readings need a rule, and the engines' own differ, so both are settled
    here: a reading that occurs twice (clocks go back) is the earlier instant; one that never occurs (clocks go forward)
    is read with the offset before the change, so 01:30 becomes 02:30 summer time. Clocks are changed at night
    everywhere, so the check is spared for the hours of the day. -#}
{% macro local_to_utc(reading, timezone) -%}
    case
        when hour({{ reading }}) between 5 and 21 then convert_timezone({{ timezone }}, 'UTC', {{ reading }})
        when
            convert_timezone('UTC', {{ timezone }}, dateadd('hour', -1, convert_timezone({{ timezone }}, 'UTC', {{ reading }})))
            = {{ reading }}
            then dateadd('hour', -1, convert_timezone({{ timezone }}, 'UTC', {{ reading }}))
        when convert_timezone('UTC', {{ timezone }}, convert_timezone({{ timezone }}, 'UTC', {{ reading }})) < {{ reading }}
            then dateadd('hour', 1, convert_timezone({{ timezone }}, 'UTC', {{ reading }}))
        else convert_timezone({{ timezone }}, 'UTC', {{ reading }})
    end
{%- endmacro %}

{#- UTC of a time as text: its own offset where it has one, else the source's timezone.
    text: trimmed text; reading: clock_time of it, computed once by the caller. -#}
{% macro text_to_utc(text, reading, timezone) -%}
    case
        when regexp_like({{ text }}, '.*[0-9] ?Z$') then {{ reading }}
        when regexp_like({{ text }}, '.*:[0-9.]+ ?[+-][0-9]{2}:?[0-9]{2}$')
            then dateadd(
                'minute',
                iff(left(right(replace({{ text }}, ':', ''), 5), 1) = '-', 1, -1)
                * (
                    try_to_decimal(left(right(replace({{ text }}, ':', ''), 4), 2), 4, 0) * 60
                    + try_to_decimal(right({{ text }}, 2), 4, 0)
                ),
                {{ reading }}
            )
        else {{ local_to_utc(reading, timezone) }}
    end
{%- endmacro %}

{#- yyyymmdd of a day, as a number. -#}
{% macro date_key(day) -%}
    (year({{ day }}) * 10000 + month({{ day }}) * 100 + day({{ day }}))::number(8, 0)
{%- endmacro %}
