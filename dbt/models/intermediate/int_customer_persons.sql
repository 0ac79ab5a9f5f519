{#- Chains are followed by doubling: after so many rounds every customer has gone 2^rounds steps. -#}
{%- set rounds = 10 %}

with files as (
    select
        source_system,
        content_hash
    from {{ ref('int_files_to_transform') }}
    where entity = 'customer_merges'
),

file_contents as (
    select
        source_system,
        content_hash,
        is_current,
        modified_at
    from {{ ref('int_file_contents') }}
    where entity = 'customer_merges'
),

merges as (
    select
        staging._source_system as source_system,
        staging.customer_id,
        staging.merged_into_customer_id,
        staging.merged_at,
        staging._source_file,
        staging._source_hash,
        staging._source_row,
        file_contents.is_current,
        file_contents.modified_at as file_modified_at,
        files.content_hash is not null as is_affected
    from {{ ref('stg_customer_merges') }} as staging
    inner join file_contents
        on
            staging._source_system = file_contents.source_system
            and staging._source_hash = file_contents.content_hash
    left join files
        on
            staging._source_system = files.source_system
            and staging._source_hash = files.content_hash
    where staging.reject_reason is null
),

latest as (
    select
        source_system,
        customer_id,
        merged_into_customer_id
    from merges
    where is_current
    qualify
        row_number() over (
            partition by source_system, customer_id
            order by
                merged_at desc, file_modified_at desc nulls last, _source_file desc, _source_row desc, _source_hash desc
        ) = 1
),

named as (
    select
        source_system,
        customer_id,
        is_affected
    from merges
    union all
    select
        source_system,
        merged_into_customer_id,
        is_affected
    from merges
    where merged_into_customer_id is not null
),

customers as (
    select
        source_system,
        customer_id,
        boolor_agg(is_affected) as is_affected
    from named
    group by source_system, customer_id
),

-- Where a customer is after some steps along the merges, the smallest number on the way, and whether files of this run
-- say something about one there. Who is merged into nobody stays where they are.
after_0 as (
    select
        customers.source_system,
        customers.customer_id,
        coalesce(latest.merged_into_customer_id, customers.customer_id) as reached_id,
        customers.customer_id as smallest_id,
        customers.is_affected as is_touched
    from customers
    left join latest
        on
            customers.source_system = latest.source_system
            and customers.customer_id = latest.customer_id
),

{% for round in range(1, rounds + 1) %}
after_{{ round }} as (
    select
        here.source_system,
        here.customer_id,
        there.reached_id,
        least(here.smallest_id, there.smallest_id) as smallest_id,
        here.is_touched or there.is_touched as is_touched
    from after_{{ round - 1 }} as here
    inner join after_{{ round - 1 }} as there
        on
            here.source_system = there.source_system
            and here.reached_id = there.customer_id
),

{% endfor %}
-- Who went that far is at the end, from where they only see themselves, or in a circle, all of which they see.
persons as (
    select
        here.source_system,
        here.customer_id,
        there.smallest_id as person_id,
        here.is_touched
    from after_{{ rounds }} as here
    inner join after_{{ rounds }} as there
        on
            here.source_system = there.source_system
            and here.reached_id = there.customer_id
)

select
    source_system,
    customer_id,
    person_id,
    is_touched
from persons
