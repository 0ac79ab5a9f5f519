{#- The columns together are a key: no two rows have the same values in all of them, none is NULL. -#}
{% test unique_combination(model, columns) %}

    select {{ columns | join(', ') }}
    from {{ model }}
    group by {{ columns | join(', ') }}
    having count(*) > 1{% for column in columns %} or {{ column }} is null{% endfor %}

{% endtest %}
