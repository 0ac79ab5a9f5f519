{{ config(materialized='view') }}

-- A file delivered again under its name with other content replaces what it said before: its latest delivery counts.
-- Content delivered under two names counts as long as it is the latest of one of them.
with deliveries as (
    select
        source_system,
        entity,
        content_hash,
        state,
        modified_at,
        row_number() over (
            partition by source_system, entity, file_key
            order by planned_at desc, loaded_at desc nulls last, content_hash desc
        ) = 1 as is_latest
    from {{ source('ops', 'files') }}
    where state in ('loaded', 'duplicate') and content_hash is not null
)

select
    source_system,
    entity,
    content_hash,
    boolor_agg(is_latest) as is_current,
    max(modified_at) as modified_at
from deliveries
group by source_system, entity, content_hash
having count_if(state = 'loaded') > 0
