-- Bound: 1. JSON array of {epoch, partition_id, record_position, payload (as text)}, 2. source, 3. stream.
update raw.click_events
set payload = changed.payload
from (
    select
        item.value:epoch::number(38, 0) as epoch,
        item.value:partition_id::varchar as partition_id,
        item.value:record_position::varchar as record_position,
        parse_json(item.value:payload::varchar) as payload
    from table(flatten(input => parse_json(?))) as item
) as changed
where
    raw.click_events._source_system = ?
    and raw.click_events._topic = ?
    and raw.click_events._epoch = changed.epoch
    and raw.click_events._partition = changed.partition_id
    and raw.click_events._offset = changed.record_position
