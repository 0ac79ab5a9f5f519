-- The rows stay, so that the ledger's counts stay true. Bound: 1. JSON array of {raw_id, pseudonym}, 2. source.
update raw.customers
set
    customer_id = forgotten.pseudonym,
    email = null,
    full_name = null,
    address = null,
    city = null,
    postal_code = null,
    created_at = null,
    marketing_consent = null
from (
    select
        item.value:raw_id::varchar as raw_id,
        item.value:pseudonym::varchar as pseudonym
    from table(flatten(input => parse_json(?))) as item
) as forgotten
where
    raw.customers._source_system = ?
    and raw.customers.customer_id = forgotten.raw_id
