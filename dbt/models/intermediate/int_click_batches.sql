{{ config(pre_hook="{{ claim_loaded_batches() }}") }}

-- depends_on: {{ ref('int_files_to_transform') }}
-- What this run works on. It stands until the next run of this layer, whatever happens to the marts.
select
    batches.source_system,
    batches.staged_key as content_hash,
    coalesce(batches.load_number, 0) as load_number,
    {{ is_click_rebuild() }} as is_rebuild
from {{ source('ops', 'stream_batches') }} as batches
inner join {{ source('ops', 'transformed_files') }} as claimed
    on
        claimed.model_name = 'fact_clicks'
        and claimed.state = 'claimed'
        and claimed.invocation_id = '{{ invocation_id }}'
        and batches.source_system = claimed.source_system
        and batches.staged_key = claimed.content_hash
where batches.state = 'loaded'
