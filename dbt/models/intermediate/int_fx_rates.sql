{%- set reporting_currency = "'" ~ var('reporting_currency') ~ "'" -%}

with files as (
    select
        source_system,
        content_hash,
        is_rebuild
    from {{ ref('int_files_to_transform') }}
    where entity = 'fx_rates'
),

rebuild as (
    select count(*) > 0 as is_rebuild
    from files
    where is_rebuild
),

file_contents as (
    select
        source_system,
        content_hash,
        is_current,
        modified_at
    from {{ ref('int_file_contents') }}
    where entity = 'fx_rates'
),

delivered as (
    select
        staged._source_system as rate_source,
        staged.base_currency,
        staged.quote_currency,
        staged.rate_date,
        staged.rate::number(20, 12) as rate,
        file_contents.is_current,
        files.content_hash is not null as is_affected,
        file_contents.modified_at as file_modified_at,
        staged._source_file,
        staged._source_row,
        staged._source_hash
    from {{ ref('stg_fx_rates') }} as staged
    inner join file_contents
        on
            staged._source_system = file_contents.source_system
            and staged._source_hash = file_contents.content_hash
    left join files
        on
            staged._source_system = files.source_system
            and staged._source_hash = files.content_hash
    where staged.reject_reason is null
),

-- Of several rates for a day and pair: the file that was changed last, then the later by name, then the later record.
quotes as (
    select
        rate_source,
        base_currency,
        quote_currency,
        rate_date,
        rate
    from delivered
    where is_current
    qualify
        row_number() over (
            partition by rate_source, base_currency, quote_currency, rate_date
            order by file_modified_at desc nulls last, _source_file desc, _source_row desc, _source_hash desc
        ) = 1
),

-- Every pair both ways; on a day that names a pair both ways, as it was written. The limit keeps 1 / rate in its type.
pairs as (
    select
        rate_source,
        base_currency as from_currency,
        quote_currency as to_currency,
        rate_date,
        rate,
        0 as is_inverse
    from quotes

    union all

    select
        rate_source,
        quote_currency,
        base_currency,
        rate_date,
        round(1::number(13, 12) / nullif(rate, 0), 12)::number(20, 12),
        1
    from quotes
    where rate > 0.0000001
),

edges as (
    select
        rate_source,
        from_currency,
        to_currency,
        rate_date,
        rate,
        is_inverse
    from pairs
    qualify
        row_number() over (
            partition by rate_source, from_currency, to_currency, rate_date
            order by is_inverse
        ) = 1
),

to_reporting as (
    select
        rate_source,
        from_currency,
        rate_date,
        rate,
        is_inverse
    from edges
    where to_currency = {{ reporting_currency }}
),

first_legs as (
    select
        rate_source,
        from_currency,
        to_currency as pivot,
        rate_date,
        rate
    from edges
    where
        from_currency <> {{ reporting_currency }}
        and to_currency <> {{ reporting_currency }}
),

-- Days on which one of the two legs has a rate. The other leg gives its last known one.
legs as (
    select
        rate_source,
        from_currency,
        pivot,
        rate_date as day,
        rate as first_rate,
        null as second_rate
    from first_legs

    union all

    select
        ways.rate_source,
        ways.from_currency,
        ways.pivot,
        to_reporting.rate_date,
        null,
        to_reporting.rate
    from (
        select distinct
            rate_source,
            from_currency,
            pivot
        from first_legs
    ) as ways
    inner join to_reporting
        on
            ways.rate_source = to_reporting.rate_source
            and ways.pivot = to_reporting.from_currency
),

leg_days as (
    select
        rate_source,
        from_currency,
        pivot,
        day,
        max(first_rate) as first_rate,
        max(second_rate) as second_rate
    from legs
    group by rate_source, from_currency, pivot, day
),

joined_legs as (
    select
        rate_source,
        from_currency,
        pivot,
        day,
        last_value(first_rate ignore nulls) over (
            partition by rate_source, from_currency, pivot
            order by day rows between unbounded preceding and current row
        ) as first_rate,
        last_value(second_rate ignore nulls) over (
            partition by rate_source, from_currency, pivot
            order by day rows between unbounded preceding and current row
        ) as second_rate,
        last_value(iff(first_rate is null, null, day) ignore nulls) over (
            partition by rate_source, from_currency, pivot
            order by day rows between unbounded preceding and current row
        ) as first_date,
        last_value(iff(second_rate is null, null, day) ignore nulls) over (
            partition by rate_source, from_currency, pivot
            order by day rows between unbounded preceding and current row
        ) as second_date
    from leg_days
),

-- A cross rate is of its older leg's day, so that its age is not made less than it is. Of several pivots on a day: the
-- one whose rates are younger, then the first by its code.
crosses as (
    select
        rate_source,
        from_currency,
        day,
        least(first_date, second_date) as rate_date,
        iff(
            first_rate::float * second_rate::float < 99999999,
            round(first_rate::number(38, 12) * second_rate, 12)::number(20, 12),
            null
        ) as rate
    from joined_legs
    where
        first_date is not null
        and second_date is not null
        and datediff('day', least(first_date, second_date), day) <= {{ var('exchange_rate_max_age_days') | int }}
    qualify
        row_number() over (
            partition by rate_source, from_currency, day
            order by least(first_date, second_date) desc, pivot
        ) = 1
),

candidates as (
    select
        rate_source,
        from_currency as currency,
        rate_date as day,
        rate_date,
        rate,
        2 - is_inverse as preference
    from to_reporting

    union all

    select
        rate_source,
        from_currency,
        day,
        rate_date,
        rate,
        0
    from crosses
    where rate > 0
),

-- The rate of the latest day counts; of one day the direct one, else the inverse, else the cross rate.
compared as (
    select
        *,
        datediff('day', '1900-01-01'::date, rate_date) * 3 + preference as merit,
        max(datediff('day', '1900-01-01'::date, rate_date) * 3 + preference) over (
            partition by rate_source, currency
            order by day range between unbounded preceding and current row
        ) as highest_merit
    from candidates
    where currency <> {{ reporting_currency }}
),

-- What no rate reaches is a range as well: it is how facts learn that the first rates of a currency were taken back.
currencies as (
    select
        rate_source,
        base_currency as currency
    from delivered
    where base_currency <> {{ reporting_currency }}

    union

    select
        rate_source,
        quote_currency
    from delivered
    where quote_currency <> {{ reporting_currency }}
),

starts as (
    select
        rate_source,
        currency,
        day as valid_from,
        rate,
        rate_date
    from compared
    where merit = highest_merit

    union all

    select
        rate_source,
        currency,
        '1900-01-01'::date,
        null,
        null
    from currencies
),

ranges as (
    select
        *,
        lead(valid_from) over (partition by rate_source, currency order by valid_from) as valid_to
    from starts
),

-- Days of pairs about which this run's files say something else than all other files do.
changed_quotes as (
    select
        rate_source,
        base_currency,
        quote_currency,
        rate_date
    from delivered
    where is_current or is_affected
    group by rate_source, base_currency, quote_currency, rate_date
    having
        count_if(is_affected) > 0
        and (count_if(not is_affected) = 0 or min(rate) <> max(rate))
),

quoted_days as (
    select distinct
        rate_source,
        base_currency,
        quote_currency,
        rate_date,
        1 as is_quoted
    from quotes
),

-- A changed quote counts until the next one of its pair, or until it is too old.
changes as (
    select
        changed.rate_source,
        changed.base_currency,
        changed.quote_currency,
        changed.rate_date as changed_from,
        least(
            coalesce(min(quoted_days.rate_date), '9999-12-31'::date),
            dateadd('day', {{ var('exchange_rate_max_age_days') | int }} + 1, changed.rate_date)::date
        ) as changed_to
    from changed_quotes as changed
    left join quoted_days
        on
            changed.rate_source = quoted_days.rate_source
            and changed.base_currency = quoted_days.base_currency
            and changed.quote_currency = quoted_days.quote_currency
            and changed.rate_date < quoted_days.rate_date
    group by changed.rate_source, changed.base_currency, changed.quote_currency, changed.rate_date
),

-- It concerns both its currencies and, where it leads to the reporting currency, all that are converted through it.
neighbours as (
    select
        rate_source,
        base_currency as currency,
        quote_currency as pivot
    from delivered
    where quote_currency <> {{ reporting_currency }}

    union

    select
        rate_source,
        quote_currency,
        base_currency
    from delivered
    where base_currency <> {{ reporting_currency }}
),

changed_currencies as (
    select
        rate_source,
        base_currency as currency,
        changed_from,
        changed_to
    from changes

    union

    select
        rate_source,
        quote_currency,
        changed_from,
        changed_to
    from changes

    union

    select
        changes.rate_source,
        neighbours.currency,
        changes.changed_from,
        changes.changed_to
    from changes
    inner join neighbours
        on
            changes.rate_source = neighbours.rate_source
            and neighbours.pivot in (changes.base_currency, changes.quote_currency)
    where {{ reporting_currency }} in (changes.base_currency, changes.quote_currency)
),

touched as (
    select distinct
        ranges.rate_source,
        ranges.currency,
        ranges.valid_from,
        true as is_touched
    from ranges
    inner join changed_currencies
        on
            ranges.rate_source = changed_currencies.rate_source
            and ranges.currency = changed_currencies.currency
            and ranges.valid_from < changed_currencies.changed_to
            and (ranges.valid_to is null or ranges.valid_to > changed_currencies.changed_from)
)

select
    ranges.rate_source,
    ranges.currency,
    ranges.valid_from,
    ranges.valid_to,
    ranges.rate::number(20, 12) as rate,
    ranges.rate_date,
    coalesce(touched.is_touched, rebuild.is_rebuild) as is_touched
from ranges
left join touched
    on
        ranges.rate_source = touched.rate_source
        and ranges.currency = touched.currency
        and ranges.valid_from = touched.valid_from
cross join rebuild
