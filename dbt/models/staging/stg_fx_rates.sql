with source as (
    select * from {{ source('raw', 'fx_rates') }}
),

trimmed as (
    select
        {{ clean_text('rate_date') }} as rate_date_text,
        upper({{ clean_text('base_currency') }}) as base_currency,
        upper({{ clean_text('quote_currency') }}) as quote_currency,
        nullif(trim(rate), '') as rate_text,
        _source_system,
        _source_file,
        _source_hash,
        _source_row,
        _batch_id,
        _ingested_at
    from source
),

parsed as (
    select
        *,
        {{ clock_time('rate_date_text') }}::date as rate_date,
        iff({{ is_plain_number('rate_text') }}, try_to_decimal(rate_text, 20, 12), null) as rate
    from trimmed
),

renamed as (
    select
        -- text
        base_currency,
        quote_currency,

        -- numbers
        rate,

        -- dates
        rate_date,

        -- why the row is refused: every reason, NULL when there is none
        nullif(
            regexp_replace(
                iff(
                    rate_date is null,
                    'rate_date ''' || coalesce(rate_date_text, '') || ''' is not a day as YYYY-MM-DD; ',
                    ''
                )
                || iff(
                    coalesce(regexp_like(base_currency, '^[A-Z]{3}$'), false),
                    '',
                    'base_currency ''' || coalesce(base_currency, '') || ''' is not a three-letter code; '
                )
                || iff(
                    coalesce(regexp_like(quote_currency, '^[A-Z]{3}$'), false),
                    '',
                    'quote_currency ''' || coalesce(quote_currency, '') || ''' is not a three-letter code; '
                )
                || iff(
                    coalesce(rate > 0, false),
                    '',
                    'rate ''' || coalesce(rate_text, '') || ''' is not a positive plain number below 100000000; '
                ),
                '; $',
                ''
            ),
            ''
        ) as reject_reason,

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
