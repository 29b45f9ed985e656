"""The card beside a trained model, from a real run."""

from huggingface_hub import ModelCard


def test_the_cards_of_a_run(smoke_run):
    for stage, says in (("03_sft", "supervised fine-tuning"), ("05_grpo", "SFT and GRPO")):
        card = ModelCard.load(smoke_run / stage / "model" / "README.md")
        assert card.data.language == "zh" and card.data.library_name == "transformers" and "base_model" not in card.data.to_dict()
        assert f"**{says}" in card.text.replace("\n", " ") and "444,576 parameters" in card.text and "{{" not in card.text
        assert "valid chains on dev, temperature 1.0 |" in card.text and "must not answer people in distress" in card.text
        assert "24 of 24 chains that train this run have not been reviewed" in card.text and "12356" in card.text
        assert str(smoke_run.parent) not in card.text
