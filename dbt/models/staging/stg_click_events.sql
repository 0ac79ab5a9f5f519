-- Row by row, without window functions, so that a filter on _source_file reaches RAW.
{%- set mappings = click_mappings() %}

with source as (
    select * from {{ source('raw', 'click_events') }}
),

conventions as (
    select * from {{ source('ops', 'source_conventions') }}
),

country_names as (
    select * from {{ ref('country_names') }}
),

-- Each field is read from the payload and trimmed once: that is what costs.
extracted as (
    select
        {% for field in click_fields() -%}
        {{ click_text(mappings, field) }} as {{ field }}_text,
        {% endfor -%}
        {{ is_of_streams(mappings) }} as is_mapped,
        {{ click_time_format(mappings) }} as time_format,
        payload,
        _source_system,
        _topic,
        _epoch,
        _partition,
        _offset,
        _published_at,
        _source_file,
        _batch_id,
        _ingested_at,
        coalesce(_published_at, _ingested_at) as arrived_at
    from source
),

trimmed as (
    select
        {{ plain_text('extracted.event_id_text') }} as event_id,
        lower({{ plain_text('extracted.event_type_text') }}) as event_type,
        extracted.event_time_text,
        extracted.sent_at_text,
        extracted.session_id_text as session_id,
        extracted.visitor_id_text as visitor_id,
        {{ click_id('extracted.customer_id_text') }} as customer_id,
        upper({{ click_id('extracted.product_id_text') }}) as product_id,
        {{ click_id('extracted.order_id_text') }} as order_id,
        extracted.page_text as page,
        extracted.price_text,
        extracted.quantity_text,
        upper(extracted.currency_text) as currency_text,
        extracted.country_text,
        lower(extracted.device_text) as device,
        lower(extracted.channel_text) as channel,
        extracted.user_agent_text,
        extracted.is_mapped,
        extracted.time_format,
        iff(
            extracted.event_id_text is not null,
            true,
            coalesce(startswith(to_json(extracted.payload), '{'), false)
        ) as is_object,
        coalesce(conventions.timezone, 'UTC') as timezone,
        upper(conventions.default_currency) as default_currency,
        extracted._source_system,
        extracted._topic,
        extracted._epoch,
        extracted._partition,
        extracted._offset,
        extracted._published_at,
        extracted._source_file,
        extracted._batch_id,
        extracted._ingested_at,
        extracted.arrived_at
    from extracted
    left join conventions on extracted._source_system = conventions.source_system
),

parsed as (
    select
        *,
        {{ click_time('event_time_text', 'time_format', 'timezone') }} as device_event_at,
        {{ click_time('sent_at_text', 'time_format', 'timezone') }} as sent_at,
        iff({{ is_plain_number('price_text') }}, try_to_decimal(price_text, 18, 4), null) as price,
        iff({{ is_plain_number('quantity_text') }}, try_to_decimal(quantity_text, 18, 4), null) as quantity,
        iff(regexp_like(currency_text, '^[A-Z]{3}$'), currency_text, null) as currency
    from trimmed
),

-- What the device's clock shows against the time of arrival. sent_at is by the same clock, so the time between event and
-- sending is right however wrong the clock is; no sender waits for longer than the oldest event that is believed.
clocked as (
    select
        *,
        sent_at is not null and (
            sent_at < dateadd('minute', -{{ var('clock_tolerance_minutes') }}, arrived_at)
            or sent_at > dateadd('minute', {{ var('clock_tolerance_minutes') }}, arrived_at)
        ) as is_clock_wrong,
        coalesce(
            device_event_at <= sent_at and device_event_at >= dateadd('day', -{{ var('oldest_event_days') }}, sent_at),
            false
        ) as is_wait_known,
        coalesce(device_event_at > dateadd('minute', {{ var('clock_tolerance_minutes') }}, arrived_at), false)
            as is_future,
        coalesce(device_event_at < dateadd('day', -{{ var('oldest_event_days') }}, arrived_at), false) as is_too_old
    from parsed
),

bounded as (
    select
        *,
        case
            when is_clock_wrong and is_wait_known
                then dateadd('microsecond', -datediff('microsecond', device_event_at, sent_at), arrived_at)
            when device_event_at is not null and (is_clock_wrong or is_future or is_too_old) then arrived_at
            else device_event_at
        end as event_at
    from clocked
),

dated as (
    select
        *,
        convert_timezone('UTC', '{{ var("shop_timezone") }}', event_at)::date as event_date,
        case
            when event_time_text is null then 'event_time is empty; '
            when device_event_at is null and time_format = 'iso'
                then 'event_time ''' || event_time_text
                    || ''' is not a time as YYYY-MM-DDTHH:MM:SS, with or without offset; '
            when device_event_at is null
                then 'event_time ''' || event_time_text || ''' is not a number of ' || time_format || ' since 1970; '
            when
                event_date < '{{ var("calendar_start") }}'::date or event_date > '{{ var("calendar_end") }}'::date
                then 'event_time ''' || event_time_text || ''' is outside the calendar, '
                    || '{{ var("calendar_start") }} to {{ var("calendar_end") }}; '
            else ''
        end as time_reason,
        case
            when not is_mapped
                then 'source ' || _source_system || ' has no mapping for stream ' || _topic
                    || ' in OPS.STREAM_MAPPINGS'
            when not is_object then 'the payload is no JSON object'
            else iff(event_id is null, 'event_id is empty; ', '')
                || iff(event_type is null, 'event_type is empty; ', '')
                || time_reason
        end as reasons
    from bounded
),

renamed as (
    select
        -- identifiers
        dated.event_id,
        dated.session_id,
        dated.visitor_id,
        dated.customer_id,
        dated.product_id,
        dated.order_id,

        -- text
        dated.event_type,
        dated.page,
        coalesce(dated.currency, dated.default_currency) as currency,
        coalesce(country_names.country_name, dated.country_text) as country,
        dated.device,
        dated.channel,

        -- numbers
        dated.price,
        dated.quantity,

        -- booleans
        dated.event_at <> dated.device_event_at as is_clock_skewed,
        dated.is_future,
        dated.event_at < dateadd('minute', -{{ var('late_after_minutes') }}, dated.arrived_at) as is_late,
        coalesce({{ is_crawler('dated.user_agent_text') }}, false) as is_crawler,
        (dated.price_text is not null and dated.price is null)
        or (dated.quantity_text is not null and dated.quantity is null)
        or (dated.currency_text is not null and dated.currency is null)
        or (dated.sent_at_text is not null and dated.sent_at is null) as has_unreadable_values,

        -- dates and times
        dated.event_date,
        dated.event_at,
        dated.device_event_at,
        dated.sent_at,
        dated.arrived_at,

        -- why the row is refused: every reason, NULL when there is none
        nullif(regexp_replace(dated.reasons, '; $', ''), '') as reject_reason,

        -- lineage
        dated._source_system,
        dated._topic,
        dated._epoch,
        dated._partition,
        dated._offset,
        dated._published_at,
        dated._source_file,
        dated._batch_id,
        dated._ingested_at
    from dated
    left join country_names on lower(dated.country_text) = country_names.synonym
)

select * from renamed
