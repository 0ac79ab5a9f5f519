with source as (
    select * from {{ source('raw', 'customer_merges') }}
),

conventions as (
    select * from {{ source('ops', 'source_conventions') }}
),

trimmed as (
    select
        {{ clean_id('source.customer_id') }} as customer_id,
        {{ clean_id('source.merged_into_customer_id') }} as merged_into_customer_id,
        {{ clean_text('source.merged_at') }} as merged_at_text,
        conventions.timezone,
        conventions.source_system is not null as has_conventions,
        source._source_system,
        source._source_file,
        source._source_hash,
        source._source_row,
        source._batch_id,
        source._ingested_at
    from source
    left join conventions on source._source_system = conventions.source_system
),

parsed as (
    select
        *,
        {{ clock_time('merged_at_text') }} as merged_at_reading
    from trimmed
),

renamed as (
    select
        -- identifiers; merged into itself is merged into none
        customer_id,
        nullif(merged_into_customer_id, customer_id) as merged_into_customer_id,

        -- times; a feed that does not say from when on states it from the beginning
        coalesce(
            {{ text_to_utc('merged_at_text', 'merged_at_reading', 'timezone') }},
            {{ beginning_of_time() }}
        ) as merged_at,

        -- why the row is refused: NULL when it is fine
        case
            when not has_conventions then 'source ' || _source_system || ' has no row in OPS.SOURCE_CONVENTIONS'
            when customer_id is null then 'customer_id is empty'
            when merged_at_text is not null and merged_at_reading is null
                then 'merged_at ''' || merged_at_text
                    || ''' is not a time as YYYY-MM-DD HH:MM[:SS], with or without offset'
        end as reject_reason,

        -- lineage
        _source_system,
        _source_file,
        _source_hash,
        _source_row,
        _batch_id,
        _ingested_at
    from parsed
)

select * from renamed
