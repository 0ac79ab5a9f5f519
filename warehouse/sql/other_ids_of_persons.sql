-- All ids of the people whom these ids stand for, by the merges as last transformed. Bound: 1. source, 2. JSON array of
-- ids.
with chosen as (
    select cast(? as varchar) as source_system
),

wanted as (
    select item.value::varchar as id
    from table(flatten(input => parse_json(?))) as item
),

customers as (
    select distinct
        customers.customer_id,
        customers.person_id
    from marts.dim_customers as customers
    inner join chosen on customers.source_system = chosen.source_system
)

select distinct others.customer_id
from customers as asked
inner join wanted on asked.customer_id = wanted.id
inner join customers as others on asked.person_id = others.person_id
