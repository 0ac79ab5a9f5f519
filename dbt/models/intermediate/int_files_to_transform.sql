{{ config(pre_hook="{{ claim_loaded_files() }}") }}

-- What this run works on. It stands until the next run of this layer, whatever happens to the marts.
with claimed as (
    select
        source_system,
        content_hash
    from {{ source('ops', 'transformed_files') }}
    where
        model_name = 'fact_orders'
        and state = 'claimed'
        and invocation_id = '{{ invocation_id }}'
),

deliveries as (
    select
        files.source_system,
        files.entity,
        files.file_key,
        files.content_hash,
        files.state,
        claimed.content_hash is not null as is_claimed
    from {{ source('ops', 'files') }} as files
    left join claimed
        on
            files.source_system = claimed.source_system
            and files.content_hash = claimed.content_hash
    where files.state in ('loaded', 'duplicate')
),

-- Other contents that were delivered under the name of a claimed one: their standing may have changed with it.
names as (
    select distinct
        source_system,
        entity,
        file_key
    from deliveries
    where is_claimed
)

select
    deliveries.source_system,
    deliveries.entity,
    deliveries.content_hash,
    boolor_agg(deliveries.is_claimed) as is_claimed,
    {{ is_rebuild() }} as is_rebuild
from deliveries
inner join names
    on
        deliveries.source_system = names.source_system
        and deliveries.entity = names.entity
        and deliveries.file_key = names.file_key
group by deliveries.source_system, deliveries.entity, deliveries.content_hash
having count_if(deliveries.state = 'loaded') > 0 or boolor_agg(deliveries.is_claimed)
