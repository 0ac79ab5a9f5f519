-- What names customers: every e-mail address, name and address they ever had. Bound: 1. source, 2. JSON array of
-- {raw_id, pseudonym}.
with chosen as (
    select cast(? as varchar) as source_system
),

wanted as (
    select item.value:raw_id::varchar as raw_id
    from table(flatten(input => parse_json(?))) as item
)

select distinct
    trim(customers.email) as email,
    trim(customers.full_name) as full_name,
    trim(customers.address) as address
from raw.customers as customers
inner join chosen on customers._source_system = chosen.source_system
inner join wanted on customers.customer_id = wanted.raw_id
