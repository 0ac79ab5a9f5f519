with members as (
    {{ touched_members('stg_customers', 'customer_id', 'customers') }}
),

-- No fact changes with a merge, only under which number the person is known.
merged as (
    select
        source_system,
        customer_id,
        null::timestamp_ntz as changed_from
    from {{ ref('int_customer_persons') }}
    where is_touched
),

named as (
    select
        source_system,
        customer_id,
        changed_from
    from members
    union all
    select
        source_system,
        customer_id,
        changed_from
    from merged
)

select
    source_system,
    customer_id,
    min(changed_from) as changed_from
from named
group by source_system, customer_id
