{{ config(materialized='view', schema='STAGING') }}

with rejected as (
    select
        source_system,
        stream,
        epoch,
        partition_id,
        record_position,
        reject_reason,
        _source_file
    from {{ ref('int_click_events') }}
    where reject_reason is not null and copy_number = 1
),

raw_events as (
    select * from {{ source('raw', 'click_events') }}
)

select
    rejected.reject_reason,
    raw_events.payload,
    raw_events._source_system,
    raw_events._topic,
    raw_events._epoch,
    raw_events._partition,
    raw_events._offset,
    raw_events._published_at,
    raw_events._source_file,
    raw_events._batch_id,
    raw_events._ingested_at
from rejected
inner join raw_events
    on
        rejected.source_system = raw_events._source_system
        and rejected._source_file = raw_events._source_file
        and rejected.stream = raw_events._topic
        and rejected.epoch = raw_events._epoch
        and rejected.partition_id = raw_events._partition
        and rejected.record_position = raw_events._offset
