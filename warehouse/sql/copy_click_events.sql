-- Parquet has no JSON type: text becomes a VARIANT by parsing. What Snowflake's parser won't take (a key that stands
-- twice) stays text, which staging rejects with its reason; a load never fails on it. Folder and files are filled in by
-- warehouse.stream_loading, quoted.
copy into raw.click_events (
    payload, _source_system, _topic, _epoch, _partition, _offset, _published_at, _source_file, _batch_id, _ingested_at
)
from (
    select
        coalesce(try_parse_json($1:payload::varchar), to_variant($1:payload::varchar)),
        $1:_source_system::varchar,
        $1:_topic::varchar,
        $1:_epoch::number(38, 0),
        $1:_partition::varchar,
        $1:_offset::varchar,
        $1:_published_at::timestamp_ntz,
        $1:_source_file::varchar,
        $1:_batch_id::varchar,
        $1:_ingested_at::timestamp_ntz
    from $stage_folder
)
files = $files -- noqa: PRS
file_format = (format_name = 'raw.staged_parquet')
force = true
