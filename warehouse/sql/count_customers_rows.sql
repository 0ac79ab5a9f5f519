-- How much RAW has of customers. Bound: 1. source, 2. JSON array of {raw_id, pseudonym}.
with chosen as (
    select cast(? as varchar) as source_system
),

wanted as (
    select distinct item.value:raw_id::varchar as raw_id
    from table(flatten(input => parse_json(?))) as item
)

select
    'RAW.CUSTOMERS' as place,
    count(*) as row_count
from raw.customers as customers
inner join chosen on customers._source_system = chosen.source_system
inner join wanted on customers.customer_id = wanted.raw_id
union all
select
    'RAW.ORDER_LINES',
    count(*)
from raw.order_lines as lines
inner join chosen on lines._source_system = chosen.source_system
inner join wanted on lines.customer_id = wanted.raw_id
union all
select
    'RAW.CUSTOMER_MERGES',
    count(*)
from raw.customer_merges as merges
inner join chosen on merges._source_system = chosen.source_system
where
    merges.customer_id in (select wanted.raw_id from wanted)
    or merges.merged_into_customer_id in (select wanted.raw_id from wanted)
