{{
    config(
        materialized='replace_touched',
        meta={'keys': ['source_system', 'customer_id'], 'touched': 'int_touched_customers'},
    )
}}

with
{{ member_versions('stg_customers', 'customer_id', 'customers', 'int_touched_customers', [
    'email', 'full_name', 'address', 'city', 'postal_code', 'country', 'signed_up_at', 'has_marketing_consent',
]) }},

persons as (
    select
        source_system,
        customer_id,
        person_id
    from {{ ref('int_customer_persons') }}
),

unknown as (
    select known.customer_key
    from (select {{ unknown_key() }} as customer_key) as known
    left join {{ this }} as present on known.customer_key = present.customer_key
    where present.customer_key is null
),

-- Customers known from orders, clicks or merges only; the same key is completed in place when their master data arrives.
without_versions as (
    select
        touched.source_system,
        touched.customer_id
    from touched
    left join versions
        on
            touched.source_system = versions.source_system
            and touched.customer_id = versions.customer_id
    where versions.customer_id is null
),

inferred as (
    select
        without_versions.source_system,
        without_versions.customer_id
    from without_versions
    inner join {{ ref('int_order_lines') }} as lines
        on
            without_versions.source_system = lines.source_system
            and without_versions.customer_id = lines.customer_id
            and lines.is_readable
    union
    select
        without_versions.source_system,
        without_versions.customer_id
    from without_versions
    inner join {{ ref('int_click_events') }} as events
        on
            without_versions.source_system = events.source_system
            and without_versions.customer_id = events.customer_id
            and events.reject_reason is null
    union
    select
        without_versions.source_system,
        without_versions.customer_id
    from without_versions
    inner join persons
        on
            without_versions.source_system = persons.source_system
            and without_versions.customer_id = persons.customer_id
),

members as (
    select
        {{ surrogate_key(['source_system', 'customer_id', time_as_text('valid_from')]) }} as customer_key,
        source_system,
        customer_id,
        email,
        full_name,
        address,
        city,
        postal_code,
        country,
        signed_up_at,
        has_marketing_consent,
        false as is_inferred,
        valid_from,
        valid_to
    from versions

    union all

    select
        {{ surrogate_key(['source_system', 'customer_id', time_as_text(beginning_of_time())]) }},
        source_system,
        customer_id,
        null,
        null,
        null,
        null,
        null,
        null,
        null,
        null,
        true,
        {{ beginning_of_time() }},
        null
    from inferred

    union all

    select
        unknown.customer_key,
        null,
        null,
        null,
        null,
        null,
        null,
        null,
        null,
        null,
        null,
        false,
        {{ beginning_of_time() }},
        null
    from unknown
)

select
    members.customer_key::varchar(32) as customer_key,
    members.source_system::varchar as source_system,
    members.customer_id::varchar as customer_id,
    members.email::varchar as email,
    members.full_name::varchar as full_name,
    members.address::varchar as address,
    members.city::varchar as city,
    members.postal_code::varchar as postal_code,
    members.country::varchar as country,
    members.signed_up_at::timestamp_ntz as signed_up_at,
    members.has_marketing_consent::boolean as has_marketing_consent,
    members.is_inferred::boolean as is_inferred,
    coalesce(persons.person_id, members.customer_id)::varchar as person_id,
    members.valid_from::timestamp_ntz as valid_from,
    members.valid_to::timestamp_ntz as valid_to,
    members.valid_to is null as is_current
from members
left join persons
    on
        members.source_system = persons.source_system
        and members.customer_id = persons.customer_id
