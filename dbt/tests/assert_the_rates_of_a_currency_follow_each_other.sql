with ranges as (
    select
        rate_source,
        currency,
        valid_from,
        valid_to,
        rate,
        rate_date,
        lead(valid_from) over (partition by rate_source, currency order by valid_from) as next_from,
        row_number() over (partition by rate_source, currency order by valid_from) as place
    from {{ ref('int_fx_rates') }}
)

-- One rate a day, and only the days before the first rate have none.
select
    rate_source,
    currency,
    valid_from,
    valid_to,
    rate,
    rate_date
from ranges
where
    valid_to is distinct from next_from
    or valid_to <= valid_from
    or (place = 1) <> (rate is null)
    or rate <= 0
    or rate_date > valid_from
