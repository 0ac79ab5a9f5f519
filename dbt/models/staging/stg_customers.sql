with source as (
    select * from {{ source('raw', 'customers') }}
),

conventions as (
    select * from {{ source('ops', 'source_conventions') }}
),

country_names as (
    select * from {{ ref('country_names') }}
),

trimmed as (
    select
        {{ clean_id('source.customer_id') }} as customer_id,
        lower({{ clean_text('source.email') }}) as email,
        {{ clean_text('source.full_name') }} as full_name,
        {{ clean_text('source.address') }} as address,
        {{ clean_text('source.city') }} as city,
        upper({{ clean_text('source.postal_code') }}) as postal_code,
        {{ clean_text('source.country') }} as country_text,
        {{ text_to_boolean('source.marketing_consent') }} as has_marketing_consent,
        {{ clean_text('source.created_at') }} as created_at_text,
        {{ clean_text('source.effective_at') }} as effective_at_text,
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
        {{ clock_time('created_at_text') }} as created_at_reading,
        {{ clock_time('effective_at_text') }} as effective_at_reading
    from trimmed
),

renamed as (
    select
        -- identifiers
        parsed.customer_id,

        -- text
        parsed.email,
        parsed.full_name,
        parsed.address,
        parsed.city,
        parsed.postal_code,
        coalesce(country_names.country_name, parsed.country_text) as country,
        country_names.country_code,

        -- booleans
        parsed.has_marketing_consent,

        -- times; a feed that does not say from when a version holds states it from the beginning
        {{ text_to_utc('parsed.created_at_text', 'parsed.created_at_reading', 'parsed.timezone') }} as signed_up_at,
        coalesce(
            {{ text_to_utc('parsed.effective_at_text', 'parsed.effective_at_reading', 'parsed.timezone') }},
            {{ beginning_of_time() }}
        ) as effective_at,

        -- why the row is refused: NULL when it is fine
        case
            when not parsed.has_conventions
                then 'source ' || parsed._source_system || ' has no row in OPS.SOURCE_CONVENTIONS'
            when parsed.customer_id is null then 'customer_id is empty'
            when parsed.effective_at_text is not null and parsed.effective_at_reading is null
                then 'effective_at ''' || parsed.effective_at_text
                    || ''' is not a time as YYYY-MM-DD HH:MM[:SS], with or without offset'
        end as reject_reason,

        -- lineage
        parsed._source_system,
        parsed._source_file,
        parsed._source_hash,
        parsed._source_row,
        parsed._batch_id,
        parsed._ingested_at
    from parsed
    left join country_names on lower(parsed.country_text) = country_names.synonym
)

select
    *,
    {{ attributes_hash([
        'email', 'full_name', 'address', 'city', 'postal_code', 'country', 'signed_up_at', 'has_marketing_consent',
    ]) }} as attributes_hash
from renamed
