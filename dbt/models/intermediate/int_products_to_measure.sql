with lines as (
    select
        source_system,
        order_id,
        customer_id,
        product_id
    from {{ ref('int_order_lines') }}
    where is_readable and product_id is not null
),

events as (
    select
        click_key,
        source_system,
        product_id,
        load_number,
        _source_file
    from {{ ref('int_click_events') }}
    where reject_reason is null
),

-- Records of this run, by the events they are about: another record may have told of one before.
arrived as (
    select distinct events.click_key
    from events
    inner join {{ ref('int_click_batches') }} as batches
        on
            events.load_number = batches.load_number
            and events.source_system = batches.source_system
            and events._source_file = batches.content_hash
)

-- Of orders whose facts are written anew, as they are and as they were delivered before
select
    lines.source_system,
    lines.product_id
from lines
inner join {{ ref('int_touched_orders') }} as touched
    on
        lines.source_system = touched.source_system
        and lines.order_id = touched.order_id

union

-- Of customers who may be another person by now
select
    lines.source_system,
    lines.product_id
from lines
inner join {{ ref('int_customer_persons') }} as persons
    on
        lines.source_system = persons.source_system
        and lines.customer_id = persons.customer_id
where persons.is_touched

union

-- With other master data, or named for the first time
select
    source_system,
    product_id
from {{ ref('int_touched_products') }}

union

-- Of events that another record tells otherwise
select
    events.source_system,
    events.product_id
from events
inner join arrived on events.click_key = arrived.click_key
where events.product_id is not null

union

-- Of sessions that are written anew: who buys in them, or is a program, may be known only now
select
    source_system,
    product_id
from {{ ref('int_sessionized_clicks') }}
where product_id is not null
