{{
    config(
        materialized='replace_touched',
        meta={'keys': ['click_key'], 'is_working': true, 'claims': 'int_click_batches'},
    )
}}

{%- set staged_columns = [
    'click_key', 'source_system', 'visitor_key', 'event_id', 'event_type', 'event_at', 'event_date', 'device_event_at',
    'sent_at', 'arrived_at', 'session_id', 'visitor_id', 'customer_id', 'product_id', 'order_id', 'page', 'price',
    'quantity', 'currency', 'country', 'device', 'channel', 'is_clock_skewed', 'is_future', 'is_late', 'is_crawler',
    'has_unreadable_values', 'reject_reason', 'stream', 'epoch', 'partition_id', 'record_position', 'load_number',
    '_source_file', '_ingested_at',
] %}

with batches as (
    select
        source_system,
        content_hash,
        load_number
    from {{ ref('int_click_batches') }}
),

staged as (
    select *
    from {{ ref('stg_click_events') }}
    where _source_file in (select batches.content_hash from batches)
),

-- A reject is a thing of its own: whatever id it has, it can't be the first of the events with that id.
arrived as (
    select
        iff(
            staged.reject_reason is null,
            {{ surrogate_key(['staged._source_system', 'staged.event_id']) }},
            md5(concat_ws(
                chr(31), 'reject', staged._source_system, staged._topic, staged._epoch::varchar, staged._partition,
                staged._offset
            ))
        ) as click_key,
        staged._source_system as source_system,
        md5(concat_ws(
            '|',
            staged._source_system,
            case
                when staged.visitor_id is not null then 'visitor'
                when staged.session_id is not null then 'session'
                when staged.customer_id is not null then 'customer'
                else 'event'
            end,
            coalesce(staged.visitor_id, staged.session_id, staged.customer_id, staged.event_id, '')
        )) as visitor_key,
        staged.event_id,
        staged.event_type,
        staged.event_at,
        staged.event_date,
        staged.device_event_at,
        staged.sent_at,
        staged.arrived_at,
        staged.session_id,
        staged.visitor_id,
        staged.customer_id,
        staged.product_id,
        staged.order_id,
        staged.page,
        staged.price,
        staged.quantity,
        staged.currency,
        staged.country,
        staged.device,
        staged.channel,
        staged.is_clock_skewed,
        staged.is_future,
        staged.is_late,
        staged.is_crawler,
        staged.has_unreadable_values,
        staged.reject_reason,
        staged._topic as stream,
        staged._epoch as epoch,
        staged._partition as partition_id,
        staged._offset as record_position,
        batches.load_number,
        staged._source_file,
        staged._ingested_at
    from staged
    inner join batches
        on
            staged._source_system = batches.source_system
            and staged._source_file = batches.content_hash
),

{% if has_rows_to_keep() -%}
touched as (
    select distinct click_key
    from arrived
),

known as (
    select events.*
    from {{ this }} as events
    inner join touched on events.click_key = touched.click_key
    left join batches
        on
            events.source_system = batches.source_system
            and events._source_file = batches.content_hash
    where batches.content_hash is null
),

{% endif -%}

events as (
    select {{ staged_columns | join(', ') }}
    from arrived
    {% if has_rows_to_keep() -%}
    union all
    select {{ staged_columns | join(', ') }}
    from known
    {%- endif %}
),

-- Few ids come twice, and only those have to be put in order.
repeated as (
    select
        click_key,
        count(*) as record_count
    from events
    group by click_key
    having count(*) > 1
)

-- Of the records with one event id the first counts: published first, then loaded first, then by place. Offsets and
-- sequence numbers are text, so the shorter is the smaller.
select
    {% for column in staged_columns -%}
    events.{{ column }},
    {% endfor -%}
    row_number() over (
        partition by events.click_key
        order by
            events.arrived_at, events.load_number, events.stream, events.epoch, events.partition_id,
            length(events.record_position), events.record_position, events._source_file
    ) as copy_number,
    repeated.record_count
from events
inner join repeated on events.click_key = repeated.click_key

union all

select
    {% for column in staged_columns -%}
    events.{{ column }},
    {% endfor -%}
    1 as copy_number,
    1 as record_count
from events
left join repeated on events.click_key = repeated.click_key
where repeated.click_key is null
