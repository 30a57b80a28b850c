"""Cards beside links: by the pointer, by the keyboard, and gone again."""

from __future__ import annotations


def test_cards_of_a_term_and_of_an_equation(page, site_url):
    page.goto(site_url + "notebooks/09-gan-theory.html")
    card, term = page.locator(".link-card"), page.locator("a.card-term").first
    assert not card.is_visible()
    term.hover()
    card.wait_for(state="visible")
    assert "生成对抗网络" in card.inner_text()
    assert term.get_attribute("aria-describedby") == card.get_attribute("id")
    page.keyboard.press("Escape")
    assert not card.is_visible()
    # by the keyboard: the tabulator reaches the link, the card shows, and goes with it
    page.wait_for_selector("#eq-9-6 mjx-container")
    page.locator('a.card-equation[href="#eq-9-6"]').first.evaluate("a => a.focus()")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    card.wait_for(state="visible")
    assert card.locator("mjx-container").count() == 1
    box = card.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= page.viewport_size["width"]
    page.keyboard.press("Tab")  # to the next link: a term, with a card of its own
    card.get_by_text("Nash").wait_for()


def test_on_a_small_screen_the_card_stays_inside(page, site_url):
    page.set_viewport_size({"width": 320, "height": 640})
    page.goto(site_url + "notebooks/09-gan-theory.html")
    paper = page.locator("a.card-paper").last
    paper.hover()
    card = page.locator(".link-card")
    card.wait_for(state="visible")
    box = card.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 320
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
