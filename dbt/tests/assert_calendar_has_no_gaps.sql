select
    count(*) as days_found,
    datediff('day', '{{ var("calendar_start") }}'::date, '{{ var("calendar_end") }}'::date) + 1 as days_expected
from {{ ref('dim_date') }}
having count(*) <> datediff('day', '{{ var("calendar_start") }}'::date, '{{ var("calendar_end") }}'::date) + 1
