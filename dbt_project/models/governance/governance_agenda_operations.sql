{{ ranked_proposals("not is_confidential") }}
