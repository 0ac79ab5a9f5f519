{{
    config(
        materialized='replace_touched',
        meta={
            'keys': ['click_key'],
            'touched': 'int_sessionized_clicks',
            'claims': 'int_click_batches',
        },
    )
}}

-- depends_on: {{ ref('int_click_batches') }}
-- depends_on: {{ ref('fact_sessions') }}
-- depends_on: {{ ref('dim_date') }}
with clicks as (
    select * from {{ ref('int_sessionized_clicks') }}
),

customers as (
    select
        customer_key,
        source_system,
        customer_id,
        valid_from,
        valid_to
    from {{ ref('dim_customers') }}
),

products as (
    select
        product_key,
        source_system,
        product_id,
        valid_from,
        valid_to
    from {{ ref('dim_products') }}
)

-- A click whose customer or product has no member violates NOT NULL and fails the run: it is never pointed elsewhere.
select
    clicks.click_key::varchar(32) as click_key,
    clicks.event_id::varchar as event_id,
    clicks.event_type::varchar as event_type,
    clicks.event_at::timestamp_ntz as event_at,
    {{ date_key('clicks.event_date') }} as event_date_key,
    clicks.device_event_at::timestamp_ntz as device_event_at,
    clicks.sent_at::timestamp_ntz as sent_at,
    clicks.arrived_at::timestamp_ntz as published_at,
    clicks._ingested_at::timestamp_ntz as ingested_at,
    clicks.session_key::varchar(32) as session_key,
    clicks.visitor_key::varchar(32) as visitor_key,
    clicks.visitor_id::varchar as visitor_id,
    clicks.session_id::varchar as session_id,
    iff(clicks.customer_id is null, {{ unknown_key() }}, customers.customer_key)::varchar(32) as customer_key,
    iff(clicks.product_id is null, {{ unknown_key() }}, products.product_key)::varchar(32) as product_key,
    clicks.order_id::varchar as order_id,
    clicks.page::varchar as page,
    clicks.price::number(18, 4) as price,
    clicks.quantity::number(18, 4) as quantity,
    clicks.currency::varchar(3) as currency,
    clicks.country::varchar as country,
    clicks.device::varchar as device,
    clicks.channel::varchar as channel,
    clicks.is_clock_skewed::boolean as is_clock_skewed,
    clicks.is_future::boolean as is_future,
    clicks.is_late::boolean as is_late,
    clicks.is_bot::boolean as is_bot,
    clicks.has_unreadable_values::boolean as has_unreadable_values,
    (clicks.record_count - 1)::number(38, 0) as duplicate_count,
    clicks.source_system::varchar as source_system,
    clicks.stream::varchar as stream,
    clicks.epoch::number(38, 0) as epoch,
    clicks.partition_id::varchar as partition_id,
    clicks.record_position::varchar as record_position,
    clicks._source_file::varchar as source_file
from clicks
left join customers on {{ is_version_at('customers', 'clicks', 'customer_id', 'event_at') }}
left join products on {{ is_version_at('products', 'clicks', 'product_id', 'event_at') }}
